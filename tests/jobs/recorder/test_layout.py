"""The picture's geometry is the contract's (calls-plugin.md 7.1–7.3)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.recorder.layout import (
    TILE_SIZES,
    Box,
    column,
    contained,
    container,
    footer,
    grid,
    main_area,
    unit,
)

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
        (28, S, [9, 9, 9, 1]),  # over the margins
        (36, S, [9, 9, 9, 9]),
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


def test_a_larger_picture_shows_what_1080p_shows() -> None:
    small, large = grid(9, width=1920, height=1080), grid(9, width=3840, height=2160)
    assert [(b.left * 2, b.top * 2, b.width * 2, b.height * 2) for b in small.boxes] == [
        (b.left, b.top, b.width, b.height) for b in large.boxes
    ]
    assert large.size.name == 2 * small.size.name
    assert footer(3840, 2160).height == 64
    assert unit(1280, 720) == unit(1920, 1080) == unit(1280, 2160) == 1


even_widths = st.integers(1280 // 2, 3840 // 2).map(lambda half: 2 * half)
even_heights = st.integers(720 // 2, 2160 // 2).map(lambda half: 2 * half)


@given(st.integers(1, 200), even_widths, even_heights)
@settings(max_examples=300, deadline=None)
def test_no_tile_is_cut_off_or_lies_over_another(count: int, width: int, height: int) -> None:
    places = grid(count, width=width, height=height)
    room = container(width, height)
    assert len(places.boxes) == count
    for box in places.boxes:
        assert all(value % 2 == 0 for value in (box.left, box.top, box.width, box.height))
        assert box.left >= room.left
        assert box.right <= room.right
        assert box.top >= 0
        assert box.bottom <= room.bottom
    for before, after in pairwise(places.boxes):
        assert after.left >= before.right or after.top >= before.bottom
    assert places.size.avatar >= 30


@given(st.integers(1, 200), even_widths, even_heights)
@settings(max_examples=100, deadline=None)
def test_what_is_in_a_tile_has_room_in_it(count: int, width: int, height: int) -> None:
    size = grid(count, width=width, height=height).size
    below = size.name_lines * size.name_line + (size.host_line if size.host_below else 0)
    assert size.padding + size.avatar + size.gap + below <= size.height
    assert size.avatar + 2 * size.ring <= size.width
    assert size.padding >= size.ring - 1
    assert 2 * size.badge <= size.avatar
    assert size.name >= 8


@given(even_widths, even_heights, st.integers(16, 5000), st.integers(16, 5000))
@settings(max_examples=200, deadline=None)
def test_any_screen_is_shown_whole(width: int, height: int, across: int, down: int) -> None:
    box, area = contained(across, down, width=width, height=height), main_area(width, height)
    assert box.left >= 0
    assert box.top >= 0
    assert box.right <= area.right
    assert box.bottom <= area.bottom
    assert max(box.width / area.width, box.height / area.height) > 0.99
    assert all(value % 2 == 0 for value in (box.left, box.top, box.width, box.height))


@given(even_widths, even_heights)
@settings(max_examples=50, deadline=None)
def test_the_column_is_above_the_footer(width: int, height: int) -> None:
    box = column(width, height)
    assert 0 <= box.top < box.bottom <= footer(width, height).top
    assert box.right < width / 2
