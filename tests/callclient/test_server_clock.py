"""Server times are placed by the fastest answer, so that a slow one cannot move a recording's zero."""

from __future__ import annotations

import time

import pytest

from callclient.signaling.server_clock import ServerClock

MS = 1_000_000


def test_the_answer_belongs_to_the_middle_of_its_round_trip() -> None:
    clock = ServerClock()
    clock.measured(10_000, sent_ns=1_000 * MS, received_ns=1_020 * MS)
    assert clock.to_monotonic_ns(10_000) == 1_010 * MS
    assert clock.to_monotonic_ns(10_500) == 1_510 * MS


def test_a_slower_answer_changes_nothing_and_a_faster_one_wins() -> None:
    clock = ServerClock()
    clock.measured(10_000, sent_ns=1_000 * MS, received_ns=1_020 * MS)
    clock.measured(10_100, sent_ns=1_100 * MS, received_ns=1_400 * MS)
    assert clock.to_monotonic_ns(10_000) == 1_010 * MS
    clock.measured(10_200, sent_ns=1_203 * MS, received_ns=1_207 * MS)
    assert clock.to_monotonic_ns(10_000) == 1_005 * MS


def test_before_the_first_answer_the_clocks_are_taken_to_agree() -> None:
    now_ms = time.time_ns() // MS
    assert ServerClock().to_monotonic_ns(now_ms) == pytest.approx(time.monotonic_ns(), abs=1e9)


def test_an_answer_of_long_ago_counts_no_more_for_clocks_part() -> None:
    clock = ServerClock()
    clock.measured(10_000, sent_ns=1_000 * MS, received_ns=1_001 * MS)
    later_ms = 3_600_000
    clock.measured(
        10_000 + later_ms + 180,  # 50 µs a second
        sent_ns=(1_000 + later_ms) * MS,
        received_ns=(1_020 + later_ms) * MS,
    )
    assert clock.to_monotonic_ns(10_180 + later_ms) == (1_010 + later_ms) * MS
