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


@lru_cache(maxsize=256)
def rounded(width: int, height: int, radius: int) -> Image.Image:
    """A mask, 0…255, of a rectangle with round corners."""
    if min(width, height) > _corner_px(radius):
        mask = Image.new("L", (width, height))
        fill_rounded(mask, 0, 0, width, height, radius, 255)
        return mask
    large = Image.new("L", (width * _SCALE, height * _SCALE))
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, width * _SCALE - 1, height * _SCALE - 1), radius * _SCALE, fill=255
    )
    return large.resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=16)
def hand(size: int) -> Image.Image:
    """A mask of a raised hand."""
    side = size * _SCALE
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)

    def finger(left: float, top: float, right: float, bottom: float) -> None:
        box = (left * side, top * side, right * side, bottom * side)
        draw.rounded_rectangle(box, (right - left) * side / 2, fill=255)

    for left, top in ((0.27, 0.18), (0.42, 0.06), (0.57, 0.12), (0.72, 0.26)):
        finger(left, top, left + 0.12, 0.7)
    draw.rounded_rectangle(
        (0.27 * side, 0.5 * side, 0.84 * side, 0.96 * side), side * 0.2, fill=255
    )
    thumb = [(0.3, 0.72), (0.1, 0.5), (0.03, 0.58), (0.34, 0.95)]
    draw.polygon([(x * side, y * side) for x, y in thumb], fill=255)
    return image.resize((size, size), Image.Resampling.BOX)


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


def fill_rounded(
    image: Image.Image,
    left: int,
    top: int,
    width: int,
    height: int,
    radius: int,
    colour: Rgb | int,
) -> None:
    """Paint a rectangle with round corners that may reach over the edges of `image`.

    Only its corners are drawn large: of a whole frame that would take 32 MB at 1080p.
    """
    right, bottom, side = left + width, top + height, _corner_px(radius)
    image.paste(colour, (left, top + radius, right, bottom - radius))
    image.paste(colour, (left + radius, top, right - radius, top + radius))
    image.paste(colour, (left + radius, bottom - radius, right - radius, bottom))
    all_four = rounded(side, side, radius)
    for x, from_x in ((left, 0), (right - radius, side - radius)):
        for y, from_y in ((top, 0), (bottom - radius, side - radius)):
            corner = all_four.crop((from_x, from_y, from_x + radius, from_y + radius))
            fill(image, corner, x, y, colour)


def _corner_px(radius: int) -> int:
    """Side of the smallest square that has four such corners and something between them."""
    return 2 * radius + 2


def fill(image: Image.Image, mask: Image.Image, left: int, top: int, colour: Rgb | int) -> None:
    """Paint `colour` through a mask."""
    image.paste(colour, (left, top, left + mask.width, top + mask.height), mask)
