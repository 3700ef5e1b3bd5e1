"""The picture a bot shares: four corner colours, a moving block, a running counter, a flash.

Drawn straight as YUV 4:2:0 planes (BT.601 limited range, the only matrix VP8 knows, RFC 6386 section 9.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

WIDTH_PX: Final = 1280
HEIGHT_PX: Final = 720
FRAMES_PER_S: Final = 10
CAMERA_WIDTH_PX: Final = 320
CAMERA_HEIGHT_PX: Final = 180
FLASH_FRAMES: Final = 2
"""The flash of each whole second: shown from the second on, until the third frame replaces it."""

CORNER_PX: Final = 120
"""Side of the corner squares."""
Rgb = tuple[int, int, int]
CORNERS: Final[dict[str, Rgb]] = {
    "top-left": (220, 30, 30),
    "top-right": (30, 190, 30),
    "bottom-left": (30, 30, 220),
    "bottom-right": (230, 210, 30),
}
BACKGROUND: Final[Rgb] = (60, 60, 60)
FLASH_COLOUR: Final[Rgb] = (255, 255, 255)
FLASH_BOX: Final = (320, 180, 960, 540)
"""left, top, right, bottom, px; every corner and the counter stay visible."""
_BLOCK_COLOUR: Final[Rgb] = (0, 200, 200)
_BLOCK_PX: Final = 64
_BLOCK_TOP_PX: Final = 600
_BLOCK_STEP_PX: Final = 24
_COUNTER_BOX: Final = (480, 40, 800, 120)

Planes = NDArray[np.uint8]
"""HEIGHT × 3/2 rows of WIDTH bytes: Y, then U, then V."""


@dataclass(frozen=True, slots=True)
class _Yuv:
    y: int
    u: int
    v: int


def yuv(colour: Rgb) -> _Yuv:
    """BT.601, limited range."""
    red, green, blue = colour
    return _Yuv(
        y=round(16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255),
        u=round(128 + (-37.797 * red - 74.203 * green + 112 * blue) / 255),
        v=round(128 + (112 * red - 93.786 * green - 18.214 * blue) / 255),
    )


class Picture:
    """Draws frame after frame; one per share."""

    def __init__(self) -> None:
        self._font = ImageFont.load_default(size=64)
        base = np.empty((HEIGHT_PX * 3 // 2, WIDTH_PX), np.uint8)
        fill(base, (0, 0, WIDTH_PX, HEIGHT_PX), BACKGROUND)
        for name, colour in CORNERS.items():
            fill(base, corner_box(name), colour)
        self._base = base

    def frame(self, index: int) -> Planes:
        """Frame `index`, counted from a whole second of the bot's clock."""
        planes = self._base.copy()
        if flashes(index):
            fill(planes, FLASH_BOX, FLASH_COLOUR)
        left = (index * _BLOCK_STEP_PX) % (WIDTH_PX - 2 * CORNER_PX - _BLOCK_PX) + CORNER_PX
        box = (left, _BLOCK_TOP_PX, left + _BLOCK_PX, _BLOCK_TOP_PX + _BLOCK_PX)
        fill(planes, box, _BLOCK_COLOUR)
        self._draw_counter(planes, index)
        return planes

    def _draw_counter(self, planes: Planes, index: int) -> None:
        left, top, right, bottom = _COUNTER_BOX
        text = Image.new("L", (right - left, bottom - top), yuv(BACKGROUND).y)
        ImageDraw.Draw(text).text((20, 0), f"{index:07d}", fill=235, font=self._font)
        planes[top:bottom, left:right] = np.asarray(text)


def camera_frame(index: int) -> Planes:
    """Frame `index` of a camera: 320×180, a light bar that wanders over a grey wall."""
    planes = np.empty((CAMERA_HEIGHT_PX * 3 // 2, CAMERA_WIDTH_PX), np.uint8)
    fill(planes, (0, 0, CAMERA_WIDTH_PX, CAMERA_HEIGHT_PX), BACKGROUND)
    left = index * 4 % (CAMERA_WIDTH_PX - _BLOCK_PX)
    fill(planes, (left, 40, left + _BLOCK_PX, CAMERA_HEIGHT_PX - 40), _BLOCK_COLOUR)
    return planes


def flashes(index: int) -> bool:
    """Does frame `index` show the flash?"""
    return index % FRAMES_PER_S < FLASH_FRAMES


def corner_box(name: str) -> tuple[int, int, int, int]:
    """left, top, right, bottom of a corner square, px."""
    left = 0 if name.endswith("left") else WIDTH_PX - CORNER_PX
    top = 0 if name.startswith("top") else HEIGHT_PX - CORNER_PX
    return left, top, left + CORNER_PX, top + CORNER_PX


def fill(planes: Planes, box: tuple[int, int, int, int], colour: Rgb) -> None:
    """Paint a box with even edges."""
    left, top, right, bottom = box
    value = yuv(colour)
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    planes[top:bottom, left:right] = value.y
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    chroma[0, top // 2 : bottom // 2, left // 2 : right // 2] = value.u
    chroma[1, top // 2 : bottom // 2, left // 2 : right // 2] = value.v
