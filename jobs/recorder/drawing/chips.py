"""What floats over the picture (calls-plugin.md 7.3, 7.4): whose screen it is, reactions, hands, notices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from PIL import Image, ImageChops

from jobs.recorder.drawing import text
from jobs.recorder.drawing.colours import (
    CHIP_EDGE,
    DARK_TEXT,
    HAND,
    PILL,
    PILL_TEXT,
    REACTION,
    WARNING,
    WHITE,
)
from jobs.recorder.drawing.shapes import Rgb, disc, fill, hand, monitor, rounded
from jobs.recorder.drawing.text import Style
from jobs.recorder.happenings import Emoji
from jobs.recorder.layout import Box, even
from jobs.recorder.scene import Scene, Tile

_FONT_PX: Final = 14
_PADDING_TOP_PX: Final = 6
_PADDING_RIGHT_PX: Final = 16
_PADDING_LEFT_PX: Final = 8
_PADDING_TEXT_PX: Final = 16
"""At the left where no icon is."""
_RADIUS_PX: Final = 16
_LINE_PX: Final = 20
_ICON_PX: Final = 18
_ICON_GAP_PX: Final = 8
_GAP_PX: Final = 8
_SPACE_SHARE: Final = 0.28
"""Of the letters' size: between the parts of a line."""
_REACTION_SHARE: Final = 0.55
_FADE_SHARE: Final = 0.6
"""The upper part of the column in which its chips fade away."""
_PILL_FONT_PX: Final = 10
_PILL_ICON_PX: Final = 12
_PILL_LINE_PX: Final = 12
_PILL_PADDING_PX: Final = 4, 6
_PILL_BOTTOM_PX: Final = 24
_PILL_ALPHA: Final = 0.72
_LOST_TOP_PX: Final = 24
_LOST_DOT_PX: Final = 8


class Icon(Enum):
    """What a chip begins with."""

    HAND = "hand"
    SCREEN = "screen"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class Words:
    """A part of a line, set by itself: a name's direction does not turn the sentence around."""

    text: str
    name: bool = False
    """Names are shortened where there is too little room, what is said of them is not."""


@dataclass(frozen=True, slots=True)
class Chip:
    """One line on a rounded ground."""

    words: tuple[Words, ...]
    icon: Icon | Emoji | None
    fill: Rgb
    colour: Rgb
    font: int
    line: int
    padding: tuple[int, int, int]
    """Top and bottom, right, left."""
    icon_size: int
    bold: bool = True
    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class PlacedChip:
    """A chip at its place; `fade` is the column's, None outside of it."""

    chip: Chip
    box: Box
    fade: Box | None = None


def column_chips(scene: Scene) -> list[Chip]:
    """From the bottom up: notices, raised hands, reactions, the newest of each first."""
    chips = [
        _plain((Words(notice.name, name=True), Words(notice.text)), None)
        for notice in reversed(scene.notices)
    ]
    hands = raised_hands(scene.tiles)
    if hands:
        chips.append(_plain(hands, Icon.HAND))
    for reaction in reversed(scene.reactions):
        name, emoji = Words(reaction.name, name=True), reaction.emoji
        if text.emoji_image(emoji.text, _ICON_PX) is not None:
            chips.append(_chip((name,), emoji, REACTION, WHITE))
        else:
            chips.append(_chip((name, Words(f":{emoji.name[:24]}:")), None, REACTION, WHITE))
    return chips


def raised_hands(tiles: Sequence[Tile]) -> tuple[Words, ...]:
    """Who, and what is said of them: at most two by name, in the order in which the hands went up."""
    raised = sorted((t for t in tiles if t.hand_raised_at_ms), key=lambda t: t.hand_raised_at_ms)
    names = [Words(t.person.short_name or t.person.name, name=True) for t in raised[:2]]
    match len(raised):
        case 0:
            return ()
        case 1:
            return names[0], Words("raised a hand")
        case 2:
            return names[0], Words("and"), names[1], Words("raised a hand")
        case _:
            return names[0], Words(","), names[1], Words("and others raised a hand")


def place_column(chips: Sequence[Chip], column: Box, unit: float) -> Iterator[PlacedChip]:
    """One above the other from the bottom of the column, as many as there is room for."""
    bottom, gap = column.bottom, even(_GAP_PX * unit)
    for chip in (scaled(chip, unit) for chip in chips):
        # Reactions are many, and often lie over the tiles: they take less of the width.
        room = column.width if chip.fill == WHITE else even(column.width * _REACTION_SHARE)
        width, height = measure(chip, room)
        if bottom - height < column.top:
            return
        yield PlacedChip(chip, Box(column.left, bottom - height, width, height), column)
        bottom -= height + gap


def pill(sharer: str, area: Box, unit: float) -> PlacedChip:
    """Whose screen it is: at the bottom of the main area, centred."""
    chip = Chip(
        words=(Words("Screen shared by"), Words(sharer, name=True)),
        icon=Icon.SCREEN,
        fill=PILL,
        colour=PILL_TEXT,
        font=_PILL_FONT_PX,
        line=_PILL_LINE_PX,
        padding=(_PILL_PADDING_PX[0], _PILL_PADDING_PX[1], _PILL_PADDING_PX[1]),
        icon_size=_PILL_ICON_PX,
        bold=False,
        alpha=_PILL_ALPHA,
    )
    chip = scaled(chip, unit)
    width, height = measure(chip, area.width // 2)
    bottom = area.bottom - even(_PILL_BOTTOM_PX * unit)
    return PlacedChip(chip, Box((area.width - width) // 4 * 2, bottom - height, width, height))


def lost_connection(lost_s: int, area: Box, unit: float) -> PlacedChip:
    """At the top, centred, so that whoever watches knows why nothing moves."""
    minutes, seconds = divmod(lost_s, 60)
    return _warning(f"Connection lost {minutes:02d}:{seconds:02d}", area, unit)


def interrupted(area: Box, unit: float) -> PlacedChip:
    """In the same place: moving pictures stand still for a moment, and it is not the one's who sends them."""
    return _warning("Video interrupted", area, unit)


def _warning(sentence: str, area: Box, unit: float) -> PlacedChip:
    chip = Chip(
        words=(Words(sentence),),
        icon=Icon.DOT,
        fill=PILL,
        colour=PILL_TEXT,
        font=_FONT_PX,
        line=_LINE_PX,
        padding=(_PADDING_TOP_PX, _PADDING_RIGHT_PX, _PADDING_RIGHT_PX - 4),
        icon_size=_LOST_DOT_PX,
        alpha=_PILL_ALPHA,
    )
    chip = scaled(chip, unit)
    width, height = measure(chip, area.width // 2)
    return PlacedChip(
        chip, Box((area.width - width) // 4 * 2, even(_LOST_TOP_PX * unit), width, height)
    )


@lru_cache(maxsize=128)
def measure(chip: Chip, room: int) -> tuple[int, int]:
    """Its width and height, even, at most `room` wide."""
    style = _style(chip)
    natural = sum(text.width(words.text, style) + _space(chip, words) for words in chip.words)
    width = min(_words_left(chip) + natural + chip.padding[1], room)
    return even(width + 0.9), even(chip.line + 2 * chip.padding[0])


def draw_chip(placed: PlacedChip) -> tuple[Image.Image, Image.Image]:
    """RGB image and mask, 0…255, of the box's size."""
    chip, box = placed.chip, placed.box
    image = _draw(chip, box.width, box.height)
    mask = rounded(box.width, box.height, _radius(chip, box.height))
    if chip.alpha < 1:  # of the ground: what is written on it is not transparent
        ground = mask.point(lambda value: round(value * chip.alpha))
        ink = ImageChops.difference(image, Image.new("RGB", image.size, chip.fill)).convert("L")
        ink = ink.point(lambda value: min(255, value * 5 // 4))
        mask = ImageChops.lighter(ground, ImageChops.multiply(ink, mask))
    if placed.fade is not None:
        mask = ImageChops.multiply(mask, _fade(box, placed.fade))
    return image, mask


def scaled(chip: Chip, unit: float) -> Chip:
    """The same in a larger picture."""
    if unit == 1:
        return chip
    top, right, left = (round(px * unit) for px in chip.padding)
    return Chip(
        *(chip.words, chip.icon, chip.fill, chip.colour),
        *(round(chip.font * unit), round(chip.line * unit), (top, right, left)),
        *(round(chip.icon_size * unit), chip.bold, chip.alpha),
    )


def _plain(words: tuple[Words, ...], icon: Icon | None) -> Chip:
    return _chip(words, icon, WHITE, DARK_TEXT)


def _chip(words: tuple[Words, ...], icon: Icon | Emoji | None, ground: Rgb, colour: Rgb) -> Chip:
    left = _PADDING_LEFT_PX if icon is not None else _PADDING_TEXT_PX
    padding = (_PADDING_TOP_PX, _PADDING_RIGHT_PX, left)
    return Chip(words, icon, ground, colour, _FONT_PX, _LINE_PX, padding, _ICON_PX)


@lru_cache(maxsize=64)
def _draw(chip: Chip, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), chip.fill)
    if chip.fill == WHITE:  # or it would be lost on a white slide
        edge = max(1, chip.line // 20)
        inner = rounded(width - 2 * edge, height - 2 * edge, _radius(chip, height) - edge)
        image.paste(CHIP_EDGE, (0, 0, width, height))
        fill(image, inner, edge, edge, chip.fill)
    _draw_icon(image, chip)
    style, left = _style(chip), float(_words_left(chip))
    room = width - left - chip.padding[1]
    for words, share in zip(chip.words, _shares(chip, room), strict=True):
        left += _space(chip, words)
        line = text.fit(words.text, style, share) if words.name else words.text
        left += text.draw(image, (left, height / 2), line, style, chip.colour)
    return image


def _shares(chip: Chip, room: float) -> list[float]:
    """How wide each part may be: what is left is divided among the names, short ones first."""
    style = _style(chip)
    shares = [text.width(words.text, style) for words in chip.words]
    left = room + 0.5 - sum(_space(chip, words) for words in chip.words)
    left -= sum(share for share, words in zip(shares, chip.words, strict=True) if not words.name)
    names = [number for number, words in enumerate(chip.words) if words.name]
    for count, number in enumerate(sorted(names, key=lambda n: shares[n])):
        shares[number] = min(shares[number], max(0.0, left) / (len(names) - count))
        left -= shares[number]
    return shares


def _space(chip: Chip, words: Words) -> float:
    """Before a part of the line."""
    first = words is chip.words[0] or words.text.startswith(",")
    return 0 if first else round(chip.font * _SPACE_SHARE)


def _draw_icon(image: Image.Image, chip: Chip) -> None:
    left, top = chip.padding[2], (image.height - chip.icon_size) // 2
    match chip.icon:
        case Icon.HAND:
            fill(image, hand(chip.icon_size), left, top, HAND)
        case Icon.SCREEN:
            fill(image, monitor(chip.icon_size), left, top, chip.colour)
        case Icon.DOT:
            fill(image, disc(chip.icon_size), left, top, WARNING)
        case Emoji():
            picture = text.emoji_image(chip.icon.text, chip.icon_size)
            if picture is not None:
                left += (chip.icon_size - picture.width) // 2
                image.paste(picture, (max(0, left), top), picture)
        case None:
            pass


def _words_left(chip: Chip) -> int:
    if chip.icon is None:
        return chip.padding[2]
    return chip.padding[2] + chip.icon_size + round(_ICON_GAP_PX * chip.font / _FONT_PX)


def _style(chip: Chip) -> Style:
    return Style(chip.font, bold=chip.bold)


def _radius(chip: Chip, height: int) -> int:
    return min(round(_RADIUS_PX * chip.line / _LINE_PX), height // 2)


def _fade(box: Box, column: Box) -> Image.Image:
    """Full at the bottom of the column, nothing at its top."""
    whole = column.height * _FADE_SHARE
    values = [
        min(255, round(255 * (row + 0.5 - column.top) / whole))
        for row in range(box.top, box.bottom)
    ]
    ramp = Image.new("L", (1, box.height))
    ramp.putdata(values)
    return ramp.resize((box.width, box.height))
