"""The grid's other arrangement: one large tile, the others in a column beside it. Pure geometry, px."""

from __future__ import annotations

from typing import Final

from jobs.recorder.layout import TILE_SIZES, Box, Grid, TileSize, container, even, unit

_SHAPE: Final = 16 / 9
"""Of the large tile's camera picture."""
_MARGIN_PX: Final = 16
_AVATAR_SHARE: Final = 0.56
"""Of the height that a camera's picture would have."""


def arrange(count: int, *, width: int, height: int) -> Grid:
    """The first of `count` tiles large; of the others as many as fit. `boxes` may be shorter than `count`."""
    scale, room = unit(width, height), container(width, height)
    margin = even(_MARGIN_PX * scale)
    small = TILE_SIZES[-1].scaled(scale)
    column = small.width + margin if count > 1 else 0
    large = _large(room.width - 2 * margin - column, room.height - 2 * margin, scale)
    left = room.left + even((room.width - column - large.width) / 2)
    top = room.top + even((room.height - large.height) / 2)
    boxes = [Box(left, top, large.width, large.height)]
    down = small.height + small.spacing
    fitting = min(count - 1, (room.height - 2 * margin + small.spacing) // down)
    top = room.top + even((room.height - (fitting * down - small.spacing)) / 2)
    side = room.right - margin - small.width
    boxes += [Box(side, top + n * down, small.width, small.height) for n in range(fitting)]
    return Grid(small, tuple(boxes), first=large)


def _large(width: int, height: int, scale: float) -> TileSize:
    plain = TILE_SIZES[0].scaled(scale)
    name, line = round(plain.name * 1.5), round(plain.name_line * 1.5)
    below = plain.gap + 2 * line + plain.host_line + plain.gap
    picture = min(height - below, width / _SHAPE)
    avatar = even(_AVATAR_SHARE * picture)
    return TileSize(
        width=even(picture * _SHAPE),
        height=even(picture + below),
        avatar=avatar,
        name=name,
        name_line=line,
        gap=plain.gap,
        padding=even(picture) - avatar,
        icon_padding=round(1.5 * plain.icon_padding),
        icon=even(1.5 * plain.icon),
        host=plain.host,
        host_line=plain.host_line,
        ring=plain.ring,
        camera_radius=plain.camera_radius,
        spacing=plain.spacing,
    )
