"""Bit rate of a layer over a sliding window (rtcd.md 3.7 and 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.forwarding.rate_monitor import UNKNOWN, RateMonitor

_MS = 1_000_000


def _steady(monitor: RateMonitor, sizes: list[int], *, until_ms: int, start_ms: int = 0) -> None:
    for index, at_ms in enumerate(range(start_ms, until_ms, 100)):
        monitor.push(sizes[index % len(sizes)], at_ms * _MS)


def test_the_rate_is_unknown_without_samples() -> None:
    assert RateMonitor(2).rate_bps(0) == UNKNOWN
    assert RateMonitor(2).rate_bps(10**15) == UNKNOWN


@pytest.mark.parametrize("window_s", [2, 5])
def test_the_rate_is_unknown_until_twice_the_window_is_filled(window_s: int) -> None:
    monitor = RateMonitor(window_s)
    filled_ms = 2 * window_s * 1000
    _steady(monitor, [1000], until_ms=filled_ms)
    assert monitor.rate_bps((filled_ms - 1) * _MS) == UNKNOWN
    assert monitor.rate_bps(filled_ms * _MS) == 80_000


@pytest.mark.parametrize("window_s", [2, 5])
def test_1000_bytes_each_100_ms_are_80000_bits_a_second(window_s: int) -> None:
    monitor = RateMonitor(window_s)
    _steady(monitor, [1000], until_ms=30_000, start_ms=77)
    assert monitor.rate_bps(30_000 * _MS) == 80_000


@pytest.mark.parametrize("window_s", [2, 5])
def test_every_other_sample_empty_is_half_of_that(window_s: int) -> None:
    monitor = RateMonitor(window_s)
    _steady(monitor, [1000, 0], until_ms=30_000)
    assert monitor.rate_bps(30_000 * _MS) == 40_000


def test_the_duration_of_the_samples_counts_from_the_first_one() -> None:
    monitor = RateMonitor(2)
    assert monitor.duration_s(5_000 * _MS) == 0
    monitor.push(1, 1_000 * _MS)
    assert monitor.duration_s(1_000 * _MS) == 0
    monitor.push(1, 3_500 * _MS)
    assert monitor.duration_s(3_500 * _MS) == 2.5
    monitor.reset()
    assert monitor.duration_s(9_000 * _MS) == 0
    assert monitor.rate_bps(90_000 * _MS) == UNKNOWN


def test_the_rate_follows_a_change_within_the_window() -> None:
    monitor = RateMonitor(2)
    _steady(monitor, [1000], until_ms=6_000)
    _steady(monitor, [3000], until_ms=7_000, start_ms=6_000)
    assert monitor.rate_bps(7_000 * _MS) == 160_000
    _steady(monitor, [3000], until_ms=8_000, start_ms=7_000)
    assert monitor.rate_bps(8_000 * _MS) == 240_000


def test_a_layer_that_stops_falls_to_nothing() -> None:
    monitor = RateMonitor(2)
    _steady(monitor, [1000], until_ms=6_000)
    assert monitor.rate_bps(7_000 * _MS) == 40_000
    assert monitor.rate_bps(8_000 * _MS) == 0
    assert monitor.rate_bps(10**15) == 0
    monitor.push(1000, 10**15)
    assert monitor.rate_bps(10**15 + 100 * _MS) == 4_000


@given(st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 1500)), min_size=1, max_size=60))
def test_the_rate_is_what_came_in_the_window(samples: list[tuple[int, int]]) -> None:
    monitor = RateMonitor(1)
    now_ms = 0
    seen: list[tuple[int, int]] = []
    for wait_ms, size in samples:
        now_ms += wait_ms
        monitor.push(size, now_ms * _MS)
        seen.append((now_ms, size))
    end_ms = now_ms // 100 * 100
    rate = monitor.rate_bps(now_ms * _MS)
    if end_ms - seen[0][0] // 100 * 100 < 2000:
        assert rate == UNKNOWN
    else:
        window = sum(size for at_ms, size in seen if end_ms - 1000 <= at_ms < end_ms)
        assert rate == window * 8
