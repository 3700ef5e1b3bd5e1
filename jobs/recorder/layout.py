"""Where things are in the picture (calls-plugin.md 7.1–7.4). Pure geometry, px.

The contract's sizes are those of a page in a window as large as the picture. They are kept up to 1920×1080;
larger pictures are that one enlarged, so that names stay readable where the whole picture is seen. Every
edge is even: 4:2:0 has one colour for two pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

_FOOTER_PX: Final = 32
_SIDE_MARGIN_PX: Final = 12
"""Left and right of the container that holds the tiles."""
_INSIDE_MARGIN_SHARE: Final = 0.12
_MAX_INSIDE_MARGIN_PX: Final = 150
_PLAIN_WIDTH_PX: Final = 1920
_PLAIN_HEIGHT_PX: Final = 1080
_COLUMN_SIDE_PX: Final = 24
_COLUMN_BOTTOM_PX: Final = 48
_COLUMN_SHARE: Final = 0.75
_COLUMN_WIDTH_PX: Final = 400
_CROWD_MARGIN_PX: Final = 8
"""Around the tiles when they need all the room there is."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height


@dataclass(frozen=True, slots=True)
class TileSize:
    """One row of the contract's table."""

    width: int
    height: int
    avatar: int
    name: int
    """Font size."""
    name_line: int
    gap: int
    """Between avatar and name."""
    padding: int
    """Above the avatar."""
    icon_padding: int
    icon: int
    host: int = 10
    """Font size of the word HOST."""
    host_line: int = 16
    ring: int = 3
    """Around who speaks."""
    camera_radius: int = 8
    """Of a camera picture's corners."""
    spacing: int = 8
    """To the next tile."""
    name_lines: int = 2
    host_below: bool = True
    """Is there room for HOST under the name? Otherwise it stands above the avatar."""

    @property
    def badge(self) -> int:
        """Diameter of the round badges."""
        return self.icon + 2 * self.icon_padding

    @property
    def camera_height(self) -> int:
        """A camera's picture has the tile's width and ends where the avatar would."""
        return even(self.padding + self.avatar)

    def scaled(self, unit: float) -> TileSize:
        """The same in a larger picture."""
        if unit == 1:
            return self

        def px(value: int) -> int:
            return round(value * unit)

        return replace(
            self,
            width=even(self.width * unit),
            height=even(self.height * unit),
            avatar=even(self.avatar * unit),
            name=px(self.name),
            name_line=px(self.name_line),
            gap=px(self.gap),
            padding=px(self.padding),
            icon_padding=px(self.icon_padding),
            icon=px(self.icon),
            host=px(self.host),
            host_line=px(self.host_line),
            ring=px(self.ring),
            camera_radius=px(self.camera_radius),
            spacing=even(self.spacing * unit),
        )


TILE_SIZES: Final = (
    TileSize(208, 292, 156, 14, 20, 12, 26, 8, 24),
    TileSize(160, 236, 120, 12, 16, 12, 20, 8, 20),
    TileSize(128, 204, 96, 12, 16, 12, 16, 6, 16),
    TileSize(96, 164, 72, 12, 16, 8, 12, 4, 16),
)
"""XL, L, M, S."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Places of the tiles, row by row."""

    size: TileSize
    boxes: tuple[Box, ...]
    """Where there is no room for all, those of the first tiles."""
    first: TileSize | None = None
    """Of the first tile, where it is another one."""

    def size_of(self, number: int) -> TileSize:
        """Of the tile in box `number`."""
        return self.first if number == 0 and self.first is not None else self.size


def even(value: float) -> int:
    """The even number nearest to it."""
    return 2 * round(value / 2)


def unit(width: int, height: int) -> float:
    """What one px of the contract is in a picture of that size; 1 up to 1920×1080."""
    return max(1.0, min(width / _PLAIN_WIDTH_PX, height / _PLAIN_HEIGHT_PX))


def footer(width: int, height: int) -> Box:
    """The line at the bottom: time, number of participants, who is talking."""
    footer_height = even(_FOOTER_PX * unit(width, height))
    return Box(0, height - footer_height, width, footer_height)


def main_area(width: int, height: int) -> Box:
    """Everything above the footer."""
    return Box(0, 0, width, footer(width, height).top)


def container(width: int, height: int) -> Box:
    """The rounded area that holds the tiles."""
    area, margin = main_area(width, height), even(_SIDE_MARGIN_PX * unit(width, height))
    return Box(margin, 0, area.width - 2 * margin, area.height)


def column(width: int, height: int) -> Box:
    """Where reactions and notices rise from the bottom, and the widest that one of them may be."""
    scale = unit(width, height)
    left, bottom = even(_COLUMN_SIDE_PX * scale), height - even(_COLUMN_BOTTOM_PX * scale)
    column_height = even(min(_COLUMN_SHARE * height, bottom))
    return Box(left, bottom - column_height, even(_COLUMN_WIDTH_PX * scale), column_height)


def grid(count: int, *, width: int, height: int) -> Grid:
    """The largest of the contract's tiles with which `count` of them fit, rows centred both ways.

    Where not even the smallest fit above the footer, all the room is used and the tiles shrink until all of
    them do.
    """
    area, scale = main_area(width, height), unit(width, height)
    side_margin = even(_SIDE_MARGIN_PX * scale)
    inside = min(_INSIDE_MARGIN_SHARE * width, _MAX_INSIDE_MARGIN_PX * scale)
    room_width = width - 2 * side_margin - 2 * inside
    room_height = area.height * (1 - 2 * _INSIDE_MARGIN_SHARE)
    for plain in TILE_SIZES:
        size = plain.scaled(scale)
        if _fits(count, size, room_width, room_height):
            return _arranged(count, size, area, room_width)
    smallest = TILE_SIZES[-1].scaled(scale)
    if _fits(count, smallest, room_width, area.height):  # over the margins, as on the page
        return _arranged(count, smallest, area, room_width)
    margin = 2 * _CROWD_MARGIN_PX * scale
    room_width, room_height = width - 2 * side_margin - margin, area.height - margin
    avatar = smallest.avatar
    while avatar > 2 and not _fits(count, _crowd_size(avatar), room_width, room_height):
        avatar -= 2
    return _arranged(count, _crowd_size(avatar), area, room_width)


def contained(source_width: int, source_height: int, *, width: int, height: int) -> Box:
    """As large as fits above the footer with its shape kept, centred."""
    area = main_area(width, height)
    scale = min(area.width / source_width, area.height / source_height)
    shown_width = max(2, even(source_width * scale))
    shown_height = max(2, even(source_height * scale))
    return Box(
        (area.width - shown_width) // 4 * 2,
        (area.height - shown_height) // 4 * 2,
        shown_width,
        shown_height,
    )


def _per_row(size: TileSize, room_width: float) -> int:
    return max(1, int((room_width + size.spacing) // (size.width + size.spacing)))


def _fits(count: int, size: TileSize, room_width: float, room_height: float) -> bool:
    rows = math.ceil(count / _per_row(size, room_width))
    return (
        rows * (size.height + size.spacing) - size.spacing <= room_height
        and size.width <= room_width
    )


def _arranged(count: int, size: TileSize, area: Box, room_width: float) -> Grid:
    per_row = _per_row(size, room_width)
    rows = math.ceil(count / per_row)
    across, down = size.width + size.spacing, size.height + size.spacing
    top = (area.height - (rows * down - size.spacing)) // 4 * 2
    boxes = []
    for row in range(rows):
        in_row = min(per_row, count - row * per_row)
        left = (area.width - (in_row * across - size.spacing)) // 4 * 2
        boxes += [
            Box(left + column * across, top + row * down, size.width, size.height)
            for column in range(in_row)
        ]
    return Grid(size, tuple(boxes))


def _crowd_size(avatar: int) -> TileSize:
    """A tile for calls larger than the contract's page can show: one line of name, little around it."""
    name = max(1, min(12, round(avatar * 0.23)) if avatar < 72 else round(avatar / 6))
    line = round(name * 1.3)
    padding = max(2, avatar // 14)
    return TileSize(
        width=even(avatar * 1.5),
        height=even(avatar + 2 * padding + line + 1),
        avatar=avatar,
        name=name,
        name_line=line,
        gap=1,
        padding=padding,
        icon_padding=max(1, avatar // 18),
        icon=max(4, avatar // 5),
        host=max(1, name - 2),
        host_line=line,
        ring=max(1, min(3, avatar // 18)),
        camera_radius=max(1, min(8, avatar // 9)),
        spacing=even(max(2, avatar // 18)),
        name_lines=1,
        host_below=False,
    )
