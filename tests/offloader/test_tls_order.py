"""Whose handshake begins next when there are too many."""

from __future__ import annotations

import pytest

from offloader.tls_order import NewestFirst


def taken(waiting: NewestFirst[str]) -> list[str]:
    return [waiting.take() for _ in range(len(waiting))]


def test_of_one_address_the_newest_comes_first() -> None:
    waiting: NewestFirst[str] = NewestFirst()
    for name in "abc":
        assert waiting.add("1", name) is None
    assert taken(waiting) == ["c", "b", "a"]


def test_a_thousand_of_one_address_delay_another_address_by_one() -> None:
    waiting: NewestFirst[str] = NewestFirst()
    for number in range(1000):
        waiting.add("flood", f"f{number}")
    waiting.add("plugin", "p")
    assert taken(waiting)[:4] == ["f999", "p", "f998", "f997"]


def test_beyond_the_bound_the_oldest_of_the_busiest_address_goes() -> None:
    waiting: NewestFirst[str] = NewestFirst(most=3)
    waiting.add("plugin", "p")
    waiting.add("flood", "f1")
    waiting.add("flood", "f2")
    assert waiting.add("flood", "f3") == "f1"
    assert waiting.add("flood", "f4") == "f2"
    assert sorted(taken(waiting)) == ["f3", "f4", "p"]


def test_nobody_waits_at_the_end() -> None:
    waiting: NewestFirst[str] = NewestFirst(most=0)
    assert waiting.add("a", "x") == "x", "no room at all"
    assert len(waiting) == 0
    with pytest.raises(LookupError):
        waiting.take()
