"""Where things are in the picture (calls-plugin.md 7.1–7.3). Pure geometry, px."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

FOOTER_PX: Final = 32
GAP_PX: Final = 8
SIDE_MARGIN_PX: Final = 12
"""Left and right of the container that holds the tiles."""
_INSIDE_MARGIN_SHARE: Final = 0.12
_MAX_INSIDE_MARGIN_PX: Final = 150


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; may lie outside of the picture."""

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

    @property
    def badge(self) -> int:
        """Diameter of the round badges."""
        return self.icon + 2 * self.icon_padding


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


def main_area(width: int, height: int) -> Box:
    """Everything above the footer."""
    return Box(0, 0, width, height - FOOTER_PX)


def container(width: int, height: int) -> Box:
    """The rounded area that holds the tiles."""
    area = main_area(width, height)
    return Box(SIDE_MARGIN_PX, 0, area.width - 2 * SIDE_MARGIN_PX, area.height)


def footer(width: int, height: int) -> Box:
    return Box(0, height - FOOTER_PX, width, FOOTER_PX)


def grid(count: int, *, width: int, height: int) -> Grid:
    """The largest tiles with which `count` of them fit, else the smallest; rows centred both ways."""
    inside = min(_INSIDE_MARGIN_SHARE * width, _MAX_INSIDE_MARGIN_PX)
    room_width = width - 2 * SIDE_MARGIN_PX - 2 * inside
    main_height = height - FOOTER_PX
    room_height = main_height * (1 - 2 * _INSIDE_MARGIN_SHARE)

    def arranged(size: TileSize) -> tuple[int, int]:
        per_row = max(1, int((room_width + GAP_PX) // (size.width + GAP_PX)))
        return per_row, math.ceil(count / per_row)

    def fits(size: TileSize) -> bool:
        return arranged(size)[1] * (size.height + GAP_PX) - GAP_PX <= room_height

    size = next((size for size in TILE_SIZES if fits(size)), TILE_SIZES[-1])
    per_row, rows = arranged(size)
    total_height = rows * (size.height + GAP_PX) - GAP_PX
    top = (main_height - total_height) // 2
    boxes = []
    for row in range(rows):
        in_row = min(per_row, count - row * per_row)
        left = (width - (in_row * (size.width + GAP_PX) - GAP_PX)) // 2
        boxes += [
            Box(
                left + column * (size.width + GAP_PX),
                top + row * (size.height + GAP_PX),
                size.width,
                size.height,
            )
            for column in range(in_row)
        ]
    return Grid(size, tuple(boxes))


def contained(source_width: int, source_height: int, *, width: int, height: int) -> Box:
    """As large as fits above the footer with its shape kept, centred; even edges, as 4:2:0 wants them."""
    area = main_area(width, height)
    scale = min(area.width / source_width, area.height / source_height)
    shown_width = max(2, 2 * round(source_width * scale / 2))
    shown_height = max(2, 2 * round(source_height * scale / 2))
    return Box(
        (area.width - shown_width) // 4 * 2,
        (area.height - shown_height) // 4 * 2,
        shown_width,
        shown_height,
    )
