"""One participant's tile (calls-plugin.md 7.2)."""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageDraw

from jobs.recorder.drawing.avatar import avatar
from jobs.recorder.drawing.shapes import Rgb, blended, disc, microphone, rounded
from jobs.recorder.drawing.text import semibold, wrap
from jobs.recorder.layout import TileSize
from jobs.recorder.scene import Tile

WHITE: Final[Rgb] = (255, 255, 255)
BACKGROUND: Final[Rgb] = (0x1E, 0x1E, 0x1E)
CONTAINER: Final = blended(WHITE, BACKGROUND, 0.08)
_CALLS_BACKGROUND: Final[Rgb] = (20, 33, 62)
_RING: Final = blended((61, 184, 135), CONTAINER, 0.56)
_RING_PX: Final = 3
_UNMUTED: Final[Rgb] = (0x3D, 0xB8, 0x87)
_MUTED: Final = blended(WHITE, _CALLS_BACKGROUND, 0.12)
_HAND: Final[Rgb] = (0xFF, 0xBC, 0x1F)
_HOST_FILL: Final = blended(WHITE, CONTAINER, 0.08)
_HOST_FONT_PX: Final = 10
_HOST_LINE_PX: Final = 16
_HOST_PADDING_PX: Final = 4


def draw_tile(tile: Tile, size: TileSize, *, speaking: bool) -> Image.Image:
    """RGB image of the tile's size."""
    image = Image.new("RGB", (size.width, size.height), CONTAINER)
    left = (size.width - size.avatar) // 2
    if speaking:
        diameter = size.avatar + 2 * _RING_PX
        _fill(image, disc(diameter), left - _RING_PX, size.padding - _RING_PX, _RING)
    image.paste(
        avatar(tile.person, size.avatar, _RING if speaking else CONTAINER),
        (left, size.padding),
        disc(size.avatar),
    )
    badge_top = size.padding + size.avatar - size.badge
    _draw_microphone(image, size, left + size.avatar - size.badge, badge_top, muted=tile.muted)
    if tile.hand_raised:
        _fill(image, disc(size.badge), left, badge_top, WHITE)
        _draw_hand(image, size, left + size.icon_padding, badge_top + size.icon_padding)
    _draw_name(image, tile, size)
    return image


def _draw_name(image: Image.Image, tile: Tile, size: TileSize) -> None:
    draw = ImageDraw.Draw(image)
    font = semibold(size.name)
    top = size.padding + size.avatar + size.gap
    for line in wrap(tile.person.name, font, size.width - 8, lines=2):
        middle = top + size.name_line / 2
        draw.text((size.width / 2, middle), line, fill=WHITE, font=font, anchor="mm")
        top += size.name_line
    if tile.host:
        font = semibold(_HOST_FONT_PX)
        width = round(font.getlength("HOST")) + 2 * _HOST_PADDING_PX
        left = (size.width - width) // 2
        _fill(image, rounded(width, _HOST_LINE_PX, 4), left, top, _HOST_FILL)
        middle = top + _HOST_LINE_PX / 2
        draw.text((size.width / 2, middle), "HOST", fill=WHITE, font=font, anchor="mm")


def _draw_microphone(
    image: Image.Image, size: TileSize, left: int, top: int, *, muted: bool
) -> None:
    _fill(image, disc(size.badge), left, top, _MUTED if muted else _UNMUTED)
    icon = microphone(size.icon, muted=muted)
    _fill(image, icon, left + size.icon_padding, top + size.icon_padding, WHITE)


def _draw_hand(image: Image.Image, size: TileSize, left: int, top: int) -> None:
    """A palm and four fingers."""
    palm = rounded(size.icon * 2 // 3, size.icon // 2, size.icon // 5)
    _fill(image, palm, left + size.icon // 6, top + size.icon // 2, _HAND)
    finger = rounded(max(2, size.icon // 8), size.icon * 5 // 8, size.icon // 16)
    for number in range(4):
        _fill(image, finger, left + size.icon // 6 + number * size.icon // 6, top, _HAND)


def _fill(image: Image.Image, mask: Image.Image, left: int, top: int, colour: Rgb) -> None:
    image.paste(Image.new("RGB", mask.size, colour), (left, top), mask)
