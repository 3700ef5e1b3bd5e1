"""A user's round picture."""

from __future__ import annotations

import math
import zlib
from functools import lru_cache
from typing import Final

from PIL import Image, ImageOps

from jobs.recorder.drawing import text
from jobs.recorder.drawing.colours import WHITE
from jobs.recorder.drawing.shapes import Rgb, disc
from jobs.recorder.drawing.text import Style
from jobs.recorder.scene import Person

_COLOURS: Final[tuple[Rgb, ...]] = (
    (84, 106, 173),
    (143, 92, 156),
    (172, 98, 82),
    (78, 124, 140),
    (126, 118, 72),
)
"""Behind initials; none is near the speaking ring's green."""
_LETTERS_SHARE: Final = 0.64
"""Of the disc's width."""


@lru_cache(maxsize=256)
def avatar(person: Person, diameter: int, background: Rgb) -> Image.Image:
    """Square RGB image: the picture as a disc on `background`; initials where there is no usable one."""
    face = _picture(person.picture, diameter) if person.picture else None
    out = Image.new("RGB", (diameter, diameter), background)
    out.paste(face or _initials(person, diameter), mask=disc(diameter))
    return out


def initials(name: str) -> str:
    """Of the first two words; of an emoji's name the emoji."""
    words = [text.clusters(word) for word in name.split()]
    return "".join(word[0] for word in words[:2] if word).upper()


def _picture(pixels: bytes, diameter: int) -> Image.Image | None:
    side = math.isqrt(len(pixels) // 3)
    if side == 0 or side * side * 3 != len(pixels):
        return None
    return ImageOps.fit(Image.frombytes("RGB", (side, side), pixels), (diameter, diameter))


def _initials(person: Person, diameter: int) -> Image.Image:
    colour = _COLOURS[zlib.crc32(person.user_id.encode()) % len(_COLOURS)]
    image = Image.new("RGB", (diameter, diameter), colour)
    letters, middle = initials(person.name), diameter / 2
    size = diameter * 0.4
    wide = text.width(letters, Style(max(6, round(size))))
    size *= min(1.0, diameter * _LETTERS_SHARE / max(1.0, wide))
    style = Style(max(6, round(size)))
    text.draw(image, (middle, middle), letters, style, WHITE, align="centre")
    return image
