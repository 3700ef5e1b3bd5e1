"""Fonts and text that fits."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from PIL import ImageFont

Font = ImageFont.FreeTypeFont
_FONTS: Final = Path(__file__).parent.parent / "fonts"
_ELLIPSIS: Final = "…"


@lru_cache(maxsize=32)
def regular(size: int) -> Font:
    """Open Sans 400."""
    return ImageFont.truetype(_FONTS / "OpenSans-Regular.ttf", size)


@lru_cache(maxsize=32)
def semibold(size: int) -> Font:
    """Open Sans 600."""
    return ImageFont.truetype(_FONTS / "OpenSans-Semibold.ttf", size)


def fit(text: str, font: Font, width: int) -> str:
    """`text` itself if it fits into `width` px, else as much of it as does, with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the longest beginning that fits
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle].rstrip() + _ELLIPSIS) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + _ELLIPSIS


def wrap(text: str, font: Font, width: int, *, lines: int) -> list[str]:
    """At most `lines` lines, broken between words where possible, the last one shortened to fit."""
    words = text.split()
    found: list[str] = []
    while words and len(found) < lines - 1:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        found.append(fit(" ".join(words[:count]), font, width))
        words = words[count:]
    if words:
        found.append(fit(" ".join(words), font, width))
    return found
