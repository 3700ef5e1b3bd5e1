"""The picture's geometry is the contract's (calls-plugin.md 7.1–7.3)."""

from __future__ import annotations

import pytest

from jobs.recorder.layout import TILE_SIZES, Box, contained, container, footer, grid

XL, L, M, S = TILE_SIZES


@pytest.mark.parametrize(
    ("count", "size", "rows"),
    [
        # 1280×720: the room is 956×522; XL 4 in a row and one row, L 5 × 2, M 7 × 2, S 9 × 3.
        (1, XL, [1]),
        (4, XL, [4]),
        (5, L, [5]),
        (10, L, [5, 5]),
        (11, M, [7, 4]),
        (14, M, [7, 7]),
        (15, S, [9, 6]),
        (27, S, [9, 9, 9]),
        (28, S, [9, 9, 9, 1]),
    ],
)
def test_the_largest_tiles_that_fit_are_used(count: int, size: object, rows: list[int]) -> None:
    places = grid(count, width=1280, height=720)
    assert places.size is size
    tops = [box.top for box in places.boxes]
    assert [tops.count(top) for top in sorted(set(tops))] == rows


def test_rows_are_centred_both_ways_with_gaps_of_eight() -> None:
    places = grid(11, width=1280, height=720)
    first, last = places.boxes[0], places.boxes[-1]
    assert places.boxes[1].left - first.right == 8
    assert places.boxes[7].top - first.bottom == 8
    assert abs((first.top + last.bottom) - 688) <= 1
    for row in (places.boxes[:7], places.boxes[7:]):
        assert abs((row[0].left + row[-1].right) - 1280) <= 1


def test_wide_pictures_have_at_most_150_inside_margin() -> None:
    # 12 % of 1920 would leave 1435; 150 leaves 1596: seven XL tiles instead of six.
    assert len({box.top for box in grid(7, width=1920, height=1080).boxes}) == 1


def test_container_and_footer_share_the_height() -> None:
    assert container(1280, 720) == Box(12, 0, 1256, 688)
    assert footer(1280, 720) == Box(0, 688, 1280, 32)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ((1280, 720), Box(28, 0, 1224, 688)),  # as high as there is room
        ((640, 360), Box(28, 0, 1224, 688)),  # enlarged
        ((2560, 720), Box(0, 164, 1280, 360)),  # as wide as there is room
        ((720, 1280), Box(446, 0, 388, 688)),  # upright
    ],
)
def test_a_shared_screen_is_contained_and_centred_on_even_pixels(
    source: tuple[int, int], shown: Box
) -> None:
    box = contained(*source, width=1280, height=720)
    assert all(value % 2 == 0 for value in (box.left, box.top, box.width, box.height))
    assert abs(box.left - shown.left) <= 2
    assert abs(box.top - shown.top) <= 2
    assert (box.width, box.height) == (shown.width, shown.height)
