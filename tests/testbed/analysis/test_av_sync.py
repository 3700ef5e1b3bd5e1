from __future__ import annotations

import pytest

from testbed.analysis.av_sync import pair_marks


def test_the_offset_is_how_much_later_the_flash_is_seen() -> None:
    sync = pair_marks([5, 6, 7], [5.01, 6.01, 7.01], [5.05, 6.04, 6.99])
    assert sync.offsets_s == pytest.approx([0.04, 0.03, -0.02])
    assert sync.median_s == pytest.approx(0.03)
    assert sync.worst_s == pytest.approx(0.04)


def test_a_flash_that_was_not_recorded_is_missing_and_not_paired_with_its_neighbour() -> None:
    sync = pair_marks([5, 6, 7], [5.0, 6.0, 7.0], [5.0, 7.0])
    assert [pair.true_s for pair in sync.missing] == [6]
    assert sync.offsets_s == [0, 0]


def test_marks_far_from_any_true_one_do_not_count() -> None:
    sync = pair_marks([5], [2.0, 5.5], [5.0])
    assert sync.offsets_s == []
    assert sync.median_s is None
    assert sync.worst_s is None
