"""Paints the whole frame but the shared screen itself (calls-plugin.md 7.1–7.3)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from PIL import Image, ImageDraw

from jobs.recorder import layout
from jobs.recorder.drawing.avatar import avatar
from jobs.recorder.drawing.shapes import Rgb, disc, monitor, rounded
from jobs.recorder.drawing.text import fit, regular, semibold
from jobs.recorder.drawing.tile import BACKGROUND, CONTAINER, WHITE, draw_tile
from jobs.recorder.layout import Box, TileSize
from jobs.recorder.scene import Person, Scene, Tile

_TILES_KEPT: Final = 256
"""Drawn tiles; a call of 50 with muted, speaking and their mixtures fits."""
_FOOTER_FONT_PX: Final = 14
_FOOTER_PADDING_PX: Final = 6
_FOOTER_GAP_PX: Final = 4
_TALKING_AVATAR_PX: Final = 20
_PILL_FONT_PX: Final = 10
_PILL_ICON_PX: Final = 12
_PILL_HEIGHT_PX: Final = 20
_PILL_PADDING_PX: Final = 6
_PILL_BOTTOM_PX: Final = 24
_PILL_COLOUR: Final[Rgb] = (9, 10, 11)
_PILL_TEXT: Final[Rgb] = (0xDD, 0xDF, 0xE4)
_PILL_ALPHA: Final = 0.72


class Painter:
    """Draws scenes for one size of picture. Blocking; owned by one thread."""

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height
        self._tiles: OrderedDict[tuple[Tile, TileSize, bool], Image.Image] = OrderedDict()

    def paint_grid(self, scene: Scene, speaking: frozenset[str], now: datetime) -> Image.Image:
        """RGB image of the whole frame: a tile for each session, `speaking` ones with a ring."""
        image = self._frame()
        room = layout.container(self._width, self._height)
        self._fill(image, room, CONTAINER, radius=8)
        if scene.tiles:
            places = layout.grid(len(scene.tiles), width=self._width, height=self._height)
            for tile, box in zip(scene.tiles, places.boxes, strict=True):
                if box.top >= 0 and box.bottom <= room.bottom:
                    drawn = self._tile(tile, places.size, tile.session_id in speaking)
                    image.paste(drawn, (box.left, box.top))
        self._draw_footer(image, scene, now)
        return image

    def paint_behind_screen(
        self, scene: Scene, speaking: frozenset[str], now: datetime
    ) -> Image.Image:
        """RGB image of the frame into which the shared screen is put."""
        image = self._frame()
        self._draw_footer(image, scene, now)
        talking = next((t.person for t in scene.tiles if t.session_id in speaking), None)
        if talking is not None:
            self._draw_talking(image, talking)
        return image

    def paint_pill(self, sharer: str) -> tuple[Image.Image, Image.Image, Box]:
        """Whose screen it is: RGB image, its mask (0…255) and its place, even px."""
        font = regular(_PILL_FONT_PX)
        text = fit(f"Screen shared by {sharer}", font, self._width // 2)
        width = 2 * _PILL_PADDING_PX + _PILL_ICON_PX + 4 + round(font.getlength(text))
        width += width % 2
        image = Image.new("RGB", (width, _PILL_HEIGHT_PX), _PILL_COLOUR)
        mask = rounded(width, _PILL_HEIGHT_PX, _PILL_HEIGHT_PX // 2).point(
            lambda value: round(value * _PILL_ALPHA)
        )
        icon_top = (_PILL_HEIGHT_PX - _PILL_ICON_PX) // 2
        icon = monitor(_PILL_ICON_PX)
        image.paste(
            Image.new("RGB", icon.size, _PILL_TEXT), (_PILL_PADDING_PX, icon_top), mask=icon
        )
        ImageDraw.Draw(image).text(
            (_PILL_PADDING_PX + _PILL_ICON_PX + 4, _PILL_HEIGHT_PX / 2),
            text,
            fill=_PILL_TEXT,
            font=font,
            anchor="lm",
        )
        bottom = self._height - layout.FOOTER_PX - _PILL_BOTTOM_PX
        left = (self._width - width) // 4 * 2
        return image, mask, Box(left, bottom - _PILL_HEIGHT_PX, width, _PILL_HEIGHT_PX)

    def _frame(self) -> Image.Image:
        return Image.new("RGB", (self._width, self._height), BACKGROUND)

    def _tile(self, tile: Tile, size: TileSize, speaking: bool) -> Image.Image:
        key = (tile, size, speaking)
        drawn = self._tiles.pop(key, None) or draw_tile(tile, size, speaking=speaking)
        self._tiles[key] = drawn  # the newest at the end
        if len(self._tiles) > _TILES_KEPT:
            self._tiles.popitem(last=False)
        return drawn

    def _draw_footer(self, image: Image.Image, scene: Scene, now: datetime) -> None:
        box = layout.footer(self._width, self._height)
        draw = ImageDraw.Draw(image)
        draw.rectangle((box.left, box.top, box.right, box.bottom), fill=(0, 0, 0))
        font = semibold(_FOOTER_FONT_PX)
        people = "participant" if scene.participants == 1 else "participants"
        left, middle = float(_FOOTER_PADDING_PX), box.top + box.height / 2
        for text in (f"{now:%Y-%m-%d %H:%M} UTC", f"• {scene.participants} {people}"):
            draw.text((left, middle), text, fill=WHITE, font=font, anchor="lm")
            left += font.getlength(text) + _FOOTER_GAP_PX

    def _draw_talking(self, image: Image.Image, person: Person) -> None:
        """Right-aligned: picture, name, "is talking…"."""
        box = layout.footer(self._width, self._height)
        bold, plain = semibold(_FOOTER_FONT_PX), regular(_FOOTER_FONT_PX)
        name = fit(person.name, bold, self._width // 3)
        words: Iterable[tuple[str, float]] = (("is talking…", 0), (name, _FOOTER_GAP_PX))
        right, middle = float(box.right - _FOOTER_PADDING_PX), box.top + box.height / 2
        draw = ImageDraw.Draw(image)
        for (text, gap), font in zip(words, (plain, bold), strict=True):
            right -= gap
            draw.text((right, middle), text, fill=WHITE, font=font, anchor="rm")
            right -= font.getlength(text)
        left = round(right) - _FOOTER_GAP_PX - _TALKING_AVATAR_PX
        face = avatar(person, _TALKING_AVATAR_PX, (0, 0, 0))
        top = box.top + (box.height - _TALKING_AVATAR_PX) // 2
        image.paste(face, (left, top), disc(_TALKING_AVATAR_PX))

    @staticmethod
    def _fill(image: Image.Image, box: Box, colour: Rgb, *, radius: int) -> None:
        mask = rounded(box.width, box.height, radius)
        image.paste(Image.new("RGB", mask.size, colour), (box.left, box.top), mask)
