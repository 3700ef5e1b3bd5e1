"""Round things with smooth edges: Pillow draws none, so they are drawn large and scaled down."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
_SCALE: Final = 4


@lru_cache(maxsize=64)
def disc(diameter: int) -> Image.Image:
    """A mask, 0…255, of a filled circle."""
    return rounded(diameter, diameter, diameter // 2)


@lru_cache(maxsize=64)
def rounded(width: int, height: int, radius: int) -> Image.Image:
    """A mask, 0…255, of a rectangle with round corners."""
    large = Image.new("L", (width * _SCALE, height * _SCALE))
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, width * _SCALE - 1, height * _SCALE - 1), radius * _SCALE, fill=255
    )
    return large.resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=16)
def microphone(size: int, *, muted: bool) -> Image.Image:
    """A mask of a microphone, struck through when muted."""
    side = size * _SCALE
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    line = max(1, side // 12)

    def at(*parts: float) -> tuple[float, ...]:
        return tuple(part * side for part in parts)

    draw.rounded_rectangle(at(0.38, 0.08, 0.62, 0.58), side * 0.12, fill=255)
    draw.arc(at(0.25, 0.26, 0.75, 0.74), 0, 180, fill=255, width=line)
    draw.line(at(0.5, 0.74, 0.5, 0.92), fill=255, width=line)
    if muted:
        draw.line(at(0.14, 0.18, 0.86, 0.86), fill=0, width=3 * line)
        draw.line(at(0.14, 0.14, 0.86, 0.86), fill=255, width=line)
    return image.resize((size, size), Image.Resampling.BOX)


@lru_cache(maxsize=16)
def monitor(size: int) -> Image.Image:
    """A mask of a screen on its stand."""
    side = size * _SCALE
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle(
        (0, side * 0.1, side - 1, side * 0.75), side * 0.08, outline=255, width=side // 10
    )
    draw.rectangle((side * 0.3, side * 0.85, side * 0.7, side * 0.95), fill=255)
    return image.resize((size, size), Image.Resampling.BOX)


def blended(colour: Rgb, background: Rgb, alpha: float) -> Rgb:
    """`colour` at `alpha` over an opaque background."""
    mixed = [round(alpha * c + (1 - alpha) * b) for c, b in zip(colour, background, strict=True)]
    return mixed[0], mixed[1], mixed[2]
