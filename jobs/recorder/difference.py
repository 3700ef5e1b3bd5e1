"""Does a new picture show anything new? Encoders of screens go on sending when nothing moves, and what they
send then differs by a level or two here and there."""

from __future__ import annotations

from enum import Enum
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

_PLAIN: Final = 8
"""Levels of 255. One pixel that changes by more is seen: pale letters that can be read have more."""
_FAINT: Final = 2
_FAINT_SHARE: Final = 200
"""A change by more than `_FAINT` levels is seen when more than one pixel of so many has it: dark scenes."""
_ROWS: Final = 64
"""Compared at a time: stays in the cache, and a difference is mostly found in the first rows."""


class Change(Enum):
    """From one picture to the next."""

    NONE = "none"
    """The same, to the bit."""
    FAINT = "faint"
    """Nobody would see it."""
    SEEN = "seen"


class Difference:
    """Owned by one thread; keeps its room for calculation."""

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)

    def between(self, frame: av.VideoFrame, other: av.VideoFrame) -> Change:
        """Would somebody see that `frame` is not `other`? Yes for all but 8-bit YUV 4:2:0 of one size."""
        if (frame.width, frame.height) != (other.width, other.height):
            return Change.SEEN
        if frame.format.name != "yuv420p" or other.format.name != "yuv420p":
            return Change.SEEN
        faint_left = frame.width * frame.height // _FAINT_SHARE
        change_found = Change.NONE
        for number in range(3):
            values, others = _plane(frame, number), _plane(other, number)
            for top in range(0, len(values), _ROWS):
                rows, other_rows = values[top : top + _ROWS], others[top : top + _ROWS]
                if _are_equal(rows, other_rows):
                    continue
                change_found = Change.FAINT
                change, least = self._like(rows)
                np.maximum(rows, other_rows, out=change)
                np.minimum(rows, other_rows, out=least)
                np.subtract(change, least, out=change)
                if change.max() > _PLAIN:
                    return Change.SEEN
                if number == 0:
                    faint_left -= int(np.count_nonzero(change > _FAINT))
                    if faint_left < 0:
                        return Change.SEEN
        return change_found

    def _like(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Two of the shape of `values`."""
        if self._room.size < 2 * values.size:
            self._room = np.empty(2 * values.size, np.uint8)
        return self._room[: 2 * values.size].reshape(2, *values.shape)


def _are_equal(rows: NDArray[np.uint8], others: NDArray[np.uint8]) -> bool:
    if rows.shape[1] % 8 == 0:  # eight pixels at once
        return bool((rows.view(np.uint64) == others.view(np.uint64)).all())
    return bool((rows == others).all())


def _plane(frame: av.VideoFrame, number: int) -> NDArray[np.uint8]:
    """Without what lies beyond the right edge, which may hold anything."""
    plane = frame.planes[number]
    values: NDArray[np.uint8] = np.frombuffer(memoryview(plane), np.uint8)
    return values.reshape(plane.height, plane.line_size)[:, : plane.width]
