"""What a soak judges by: pairs of marks, and their spread."""

from __future__ import annotations

import pytest

from testbed.soaks.offsets import Spread, pair_up


def whole(start_s: float) -> tuple[float, float]:
    return start_s, start_s + 0.1


def test_an_edge_whose_packet_was_lost_tells_nothing() -> None:
    late, early = pair_up([1, 2], [1, 2], flashes_s=[1, 2], beeps_s=[(1.042, 1.101), (2.002, 2.08)])
    assert late.beep_error_s == pytest.approx(0.001)
    assert early.beep_error_s == pytest.approx(0.002)


def test_a_whole_beep_that_is_late_is_late() -> None:
    (pair,) = pair_up([1], [1], flashes_s=[1], beeps_s=[(1.04, 1.142)])
    assert pair.beep_error_s == pytest.approx(0.04)


def test_each_flash_finds_its_beep_and_both_are_measured_against_their_own_truth() -> None:
    # After ten minutes the sharer's two devices are 120 ms apart.
    (pair,) = pair_up([600.06], [599.94], flashes_s=[600.075], beeps_s=[whole(599.95)])
    assert pair.flash_error_s == pytest.approx(0.015)
    assert pair.beep_error_s == pytest.approx(0.010)
    assert pair.offset_s == pytest.approx(0.005)


def test_a_muted_sharer_has_flashes_without_beeps() -> None:
    first, second = pair_up([1, 2], [1], flashes_s=[1, 2], beeps_s=[whole(1)])
    assert first.offset_s == 0
    assert (second.beep_true_s, second.offset_s) == (None, None)


def test_what_was_not_found_is_missing_and_nothing_is_used_twice() -> None:
    pairs = pair_up([1, 2, 3], [1, 2, 3], flashes_s=[1.01, 3.01], beeps_s=[whole(1.0), whole(2.0)])
    assert [pair.flash_s for pair in pairs] == [1.01, None, 3.01]
    assert [pair.beep_s for pair in pairs] == [1.0, 2.0, None]
    assert [pair.offset_s is None for pair in pairs] == [False, True, True]


def test_the_spread_tells_a_constant_delay_from_a_rare_one() -> None:
    spread = Spread.of([0.001] * 98 + [-0.05, 0.09])
    assert spread is not None
    assert (spread.median_s, spread.p99_s, spread.worst_s) == (0.001, 0.05, 0.09)
    assert spread.public()["p99_ms"] == 50.0
    assert Spread.of([]) is None
