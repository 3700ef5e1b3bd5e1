"""The token bucket."""

from __future__ import annotations

from testbed.plugin.rate_limit import RateLimit


def _allowed(limit: RateLimit, at_s: float, asked: int) -> int:
    return [limit.allow(at_s) for _ in range(asked)].count(True)


def test_a_full_bucket_gives_its_burst_and_no_more() -> None:
    assert _allowed(RateLimit(rate_per_s=10, burst=100), 5.0, 150) == 100


def test_an_empty_bucket_fills_with_the_rate() -> None:
    limit = RateLimit(rate_per_s=10, burst=100)
    _allowed(limit, 5.0, 100)
    assert _allowed(limit, 5.05, 5) == 0
    assert _allowed(limit, 5.125, 5) == 1
    assert _allowed(limit, 6.125, 50) == 10


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    limit = RateLimit(rate_per_s=1, burst=10)
    assert _allowed(limit, 0.0, 1) == 1
    assert _allowed(limit, 3600.0, 50) == 10
