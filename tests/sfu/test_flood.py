"""Limits on what one session and one client may send."""

from __future__ import annotations

from foundation.clock import ManualClock
from sfu.flood import FloodLimits


def test_ten_seconds_worth_come_through_at_once_and_then_so_many_a_second() -> None:
    clock = ManualClock()
    floods = FloodLimits(clock=clock, session_messages_per_s=5)
    assert sum(floods.message("s1") for _ in range(100)) == 50
    clock.advance(seconds=1)
    assert sum(floods.message("s1") for _ in range(100)) == 5
    clock.advance(seconds=3600)
    assert sum(floods.message("s1") for _ in range(100)) == 50


def test_each_session_and_each_client_has_its_own_limit() -> None:
    floods = FloodLimits(clock=ManualClock(), session_messages_per_s=1, client_joins_per_s=2)
    assert sum(floods.message("s1") for _ in range(20)) == 10
    assert floods.message("s2")
    assert sum(floods.join("c1") for _ in range(50)) == 20
    assert floods.join("c2")


def test_a_limit_of_0_is_none() -> None:
    floods = FloodLimits(clock=ManualClock())
    assert all(floods.message("s1") and floods.join("c1") for _ in range(1000))


def test_a_session_that_has_ended_is_forgotten() -> None:
    floods = FloodLimits(clock=ManualClock(), session_messages_per_s=1)
    assert sum(floods.message("s1") for _ in range(11)) == 10
    floods.forget("s1")
    floods.forget("s1")
    assert floods.message("s1")
