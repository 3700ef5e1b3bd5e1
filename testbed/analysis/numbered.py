"""Reads the numbers on the pictures of a staged screen (testbed/web/stage.js) out of a recording.

Each picture says which share it is of and which number it has, in black and white squares; so every
picture of a recording can be held against the time at which its original was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.marks import screen_brightness
from testbed.analysis.media import iter_pictures, luma, rgb
from testbed.analysis.pictures import Box, contained
from testbed.bots.picture import WIDTH_PX as SOURCE_WIDTH_PX

_SQUARES_LEFT_PX: Final = 320
_SQUARES_TOP_PX: Final = 556
_SQUARE_PX: Final = 40
_NUMBER_BITS: Final = 12
_SHARE_BITS: Final = 3
SQUARES: Final = _NUMBER_BITS + _SHARE_BITS + 1
"""The last one makes the number of white ones even."""
_MIDDLE: Final = 126
"""Between black (16) and white (235)."""
_PATCH_BOX: Final = (1000, 240, 1220, 440)
_CLEAR: Final = 50
"""How far from the middle of black and white a square must be: half-way pictures are nobody's."""
_SEEN_SHARE: Final = 0.3
"""Of a square's side and of the patch's, in the middle: edges are blurred."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One picture of a recording."""

    at_s: float
    share: int | None
    """None: no staged screen is to be read."""
    number: int
    colour: tuple[int, int, int]
    """Of the share's patch, or what else is at its place."""
    mean_luma: float
    flashes: bool
    """Is it bright where a staged screen flashes?"""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A while in which something was on show."""

    start_s: float
    end_s: float


def read_pictures(path: Path, *, width_px: int, height_px: int) -> list[Shown]:
    """Every picture of a recording. Raises MediaError."""
    area = contained(width_px, height_px)
    found = []
    for at_s, frame in iter_pictures(path):
        plane = luma(frame)
        read = read_squares(plane, area)
        colour = patch_colour(rgb(frame), area) if read is not None else (0, 0, 0)
        share, number = read if read is not None else (None, 0)
        flashes = screen_brightness(plane, area) > _MIDDLE
        mean_luma = float(plane[::8, ::8].mean())
        found.append(Shown(at_s, share, number, colour, mean_luma, flashes))
    return found


def read_squares(plane: NDArray[np.uint8], area: Box) -> tuple[int, int] | None:
    """(share, number), or None where the squares do not make sense."""
    brightness = []
    for index in range(SQUARES):
        left = _SQUARES_LEFT_PX + index * _SQUARE_PX
        box = (left, _SQUARES_TOP_PX, left + _SQUARE_PX, _SQUARES_TOP_PX + _SQUARE_PX)
        rows, columns = _middle(box, area)
        brightness.append(float(plane[rows, columns].mean()))
    return decode_squares(brightness)


def decode_squares(brightness: Sequence[float]) -> tuple[int, int] | None:
    """(share, number) from the brightness, 0–255, of the squares from the left; None for nonsense."""
    if len(brightness) != SQUARES or any(abs(b - _MIDDLE) < _CLEAR for b in brightness):
        return None
    bits = [int(b > _MIDDLE) for b in brightness]
    if sum(bits) % 2:
        return None
    value = int("".join(map(str, bits[:-1])), 2)
    share, number = value & ((1 << _SHARE_BITS) - 1), value >> _SHARE_BITS
    return (share, number) if share else None


def patch_colour(picture: NDArray[np.uint8], area: Box) -> tuple[int, int, int]:
    """The colour that tells a share from others."""
    rows, columns = _middle(_PATCH_BOX, area)
    red, green, blue = np.median(picture[rows, columns].reshape(-1, 3), axis=0)
    return round(float(red)), round(float(green)), round(float(blue))


def as_everybody_sees(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """What becomes of a canvas' colour in a call.

    Chromium makes full-range BT.709 of a canvas. VP8 cannot say so, and everybody, Chromium included, takes
    what comes for limited-range BT.601, which is the only one that VP8 knows (RFC 6386 section 9.2).
    """
    red, green, blue = colour
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    u, v = (blue - y) / 1.8556, (red - y) / 1.5748
    bright = 1.164 * (y - 16)
    seen = bright + 1.596 * v, bright - 0.392 * u - 0.813 * v, bright + 2.017 * u
    red, green, blue = (min(max(round(part), 0), 255) for part in seen)
    return red, green, blue


def frozen(pictures: Sequence[Shown], *, longer_than_s: float) -> list[Stretch]:
    """Stretches in which the same number of the same share stayed, of pictures of one share in order."""
    found = []
    first: Shown | None = None
    for before, after in pairwise(pictures):
        first = first or before
        changes = (before.share, before.number) != (after.share, after.number)
        if (changes or after is pictures[-1]) and after.at_s - first.at_s > longer_than_s:
            found.append(Stretch(first.at_s, after.at_s))
        if changes:
            first = None
    return found


def _middle(box: tuple[int, int, int, int], area: Box) -> tuple[slice, slice]:
    """Rows and columns of the middle of a box of the source, where the picture shows it."""
    scale = (area[2] - area[0]) / SOURCE_WIDTH_PX
    x, y = (box[0] + box[2]) / 2 * scale + area[0], (box[1] + box[3]) / 2 * scale + area[1]
    half_x = (box[2] - box[0]) * scale * _SEEN_SHARE / 2
    half_y = (box[3] - box[1]) * scale * _SEEN_SHARE / 2
    return slice(round(y - half_y), round(y + half_y) + 1), slice(
        round(x - half_x), round(x + half_x) + 1
    )
