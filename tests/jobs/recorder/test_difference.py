"""A typed letter is always seen; what an encoder goes on changing in a picture that stands still is not."""

from __future__ import annotations

import av
import numpy as np
import pytest

from jobs.recorder.difference import Change, Difference

WIDTH, HEIGHT = 328, 184
"""Not a multiple of what decoders align rows to."""


def frame(planes: np.ndarray, pixel_format: str = "yuv420p") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(planes, format=pixel_format)


@pytest.fixture
def page() -> np.ndarray:
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    planes[:HEIGHT] = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH))
    return planes


def change(before: np.ndarray, after: np.ndarray) -> Change:
    return Difference().between(frame(after), frame(before))


def seen(before: np.ndarray, after: np.ndarray) -> bool:
    return change(before, after) is Change.SEEN


def test_the_same_picture_is_no_change_and_a_faint_one_is_told_from_it(page) -> None:
    assert change(page, page.copy()) is Change.NONE
    for row in (0, HEIGHT - 1, HEIGHT, HEIGHT * 3 // 2 - 1):
        touched = page.copy()
        touched[row, WIDTH // 2 - 1] ^= 1
        assert change(page, touched) is Change.FAINT


@pytest.mark.parametrize("row", [0, 63, 64, HEIGHT - 1])
@pytest.mark.parametrize("column", [0, WIDTH - 1])
@pytest.mark.parametrize("level", [120, 137])
def test_one_pixel_is_seen_wherever_it_is(page, row, column, level) -> None:
    page[row, column] = 128
    changed = page.copy()
    changed[row, column] = level + (1 if level > 128 else -1)
    assert seen(page, changed)


@pytest.mark.parametrize(("before", "after"), [(0, 255), (255, 0), (3, 250), (250, 3)])
def test_black_and_white_are_not_neighbours(page, before, after) -> None:
    page[10, 10] = before
    changed = page.copy()
    changed[10, 10] = after
    assert seen(page, changed)


@pytest.mark.parametrize("row", [HEIGHT, HEIGHT * 5 // 4 - 1, HEIGHT * 3 // 2 - 1])
def test_colour_alone_is_seen(page, row) -> None:
    changed = page.copy()
    changed[row, 100] += 20
    assert seen(page, changed)


def test_the_shimmer_of_an_encoder_is_not_seen(page) -> None:
    random = np.random.default_rng(2)
    page = np.clip(page, 10, 240)
    changed = page + random.integers(-2, 3, page.shape).astype(np.int8)
    few = random.random(page.shape) < 0.002
    changed = np.where(few, page + 8, changed).astype(np.uint8)
    assert not seen(page, changed)


@pytest.mark.parametrize("by", [3, -3])
def test_something_large_that_changes_faintly_is_seen(page, by) -> None:
    page = np.clip(page, 10, 240)
    changed = page.copy()
    changed[20:60, 40:140] += np.uint8(by % 256)
    assert seen(page, changed)


def test_another_size_or_format_is_seen(page) -> None:
    smaller = frame(np.ascontiguousarray(page[:, :-8]))
    assert Difference().between(frame(page), smaller) is Change.SEEN
    deep = frame(page).reformat(format="yuv420p10le")
    assert Difference().between(deep, deep) is Change.SEEN


def test_rows_of_any_room_are_compared_alike(page) -> None:
    """A decoder's rows are longer than the picture is wide, and what lies beyond may hold anything."""
    padded = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane in padded.planes:
        plane.update(bytes([7]) * plane.buffer_size)
    other = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane in other.planes:
        rows = np.full((plane.height, plane.line_size), 200, np.uint8)
        rows[:, : plane.width] = 7
        plane.update(rows.tobytes())
    assert padded.planes[0].line_size > WIDTH, "the FFmpeg of the locked PyAV aligns rows"
    assert Difference().between(padded, other) is Change.NONE
