"""The colours of the page (calls-plugin.md 7.1–7.4); what is half transparent there is mixed here."""

from __future__ import annotations

from typing import Final

from jobs.recorder.drawing.shapes import Rgb, blended

WHITE: Final[Rgb] = (255, 255, 255)
BLACK: Final[Rgb] = (0, 0, 0)
DARK_TEXT: Final[Rgb] = (0x09, 0x0A, 0x0B)
QUIET_TEXT: Final = blended(WHITE, (0x30, 0x30, 0x30), 0.64)
BACKGROUND: Final[Rgb] = (0x1E, 0x1E, 0x1E)
CONTAINER: Final = blended(WHITE, BACKGROUND, 0.08)
CALLS_BACKGROUND: Final[Rgb] = (20, 33, 62)
RING: Final = blended((61, 184, 135), CONTAINER, 0.56)
RING_ON_BLACK: Final = blended((61, 184, 135), BLACK, 0.56)
UNMUTED: Final[Rgb] = (0x3D, 0xB8, 0x87)
MUTED: Final = blended(WHITE, CALLS_BACKGROUND, 0.12)
HAND: Final[Rgb] = (0xFF, 0xBC, 0x1F)
HOST: Final = blended(WHITE, CONTAINER, 0.08)
REACTION: Final = blended(WHITE, CALLS_BACKGROUND, 0.16)
CHIP_EDGE: Final[Rgb] = (0xC4, 0xC6, 0xCC)
PILL: Final[Rgb] = (9, 10, 11)
PILL_TEXT: Final[Rgb] = (0xDD, 0xDF, 0xE4)
WARNING: Final[Rgb] = (0xFF, 0xBC, 0x1F)
