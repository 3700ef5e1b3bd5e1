"""Looks at pictures of a recording: who has a tile, whose ring glows, where the shared screen is.

The geometry is calls-plugin.md 7.2 and 7.3, written down here a second time on purpose: the recorder must
not be judged by its own code. Only what the contract fixes is used: tiles of one row, centred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.media import Rgb
from testbed.bots.picture import CORNER_PX, CORNERS
from testbed.bots.picture import HEIGHT_PX as SOURCE_HEIGHT_PX
from testbed.bots.picture import WIDTH_PX as SOURCE_WIDTH_PX

FOOTER_PX: Final = 32
_GAP_PX: Final = 8
_SIDE_MARGIN_PX: Final = 12
_MAX_INSIDE_MARGIN_PX: Final = 150

Box = tuple[float, float, float, float]
"""left, top, right, bottom, px."""


@dataclass(frozen=True, slots=True)
class TileSize:
    """One row of the contract's table."""

    width_px: int
    height_px: int
    avatar_px: int
    padding_px: int
    gap_px: int


_TILE_SIZES: Final = (
    TileSize(208, 292, 156, 26, 12),
    TileSize(160, 236, 120, 20, 12),
    TileSize(128, 204, 96, 16, 12),
    TileSize(96, 164, 72, 12, 8),
)

_RING_RGB: Final = (61, 184, 135)
_RING_ALPHA: Final = 0.56
_TILE_BACKGROUND: Final = 48
"""#1E1E1E with white at 8 % over it."""
RING_RGB: Final = tuple(
    round(_RING_ALPHA * c + (1 - _RING_ALPHA) * _TILE_BACKGROUND) for c in _RING_RGB
)
"""The ring as it is seen: (55, 124, 97)."""
_RING_TOLERANCE: Final = 30
"""Largest distance of one channel: a line of 3 px loses colour, chroma is stored at half resolution."""
_RING_GREENNESS: Final = (RING_RGB[1] - RING_RGB[0]) / 2
"""Green over red at least: halfway between the ring (69) and grey (0)."""
_RING_RADII_PX: Final = (-1, 0, 1, 2, 3)
"""Looked for around the avatar's edge: the ring is 3 px wide."""
_RING_ANGLES: Final = range(195, 346, 5)
"""Degrees, the upper half: the badges are at the bottom."""
_RING_SEARCH_PX: Final = 24
"""The contract does not say how a tile's content is centred; the avatar is looked for this far."""

_WHITE_LUMA: Final = 140
"""Between the tile's background (48) and white text, thinned by scaling and compression."""
MIN_NAME_PIXELS: Final = 40
"""Four letters of 14 px have about 100 bright pixels."""

_CORNER_TOLERANCE: Final = 70
"""Largest distance of one channel: two lossy codecs and a colour matrix lie between."""
_EDGE_PX: Final = 9
"""This near to the outer edge of a corner square the colour must begin or end; half of it is blur."""
_PATCH_PX: Final = 2


@dataclass(frozen=True, slots=True)
class TileView:
    """What is to be seen in one tile."""

    name_pixels: int
    """Bright pixels where the name is."""
    ring_share: float
    """0…1: how much of the avatar's upper edge has the ring's colour."""


def tile_boxes(count: int, *, width_px: int, height_px: int) -> tuple[TileSize, list[Box]]:
    """Size and places of `count` tiles in one row.

    Raises:
        ValueError: so many do not fit in one row of the largest tile that fits.
    """
    main_height_px = height_px - FOOTER_PX
    inside_px = min(0.12 * width_px, _MAX_INSIDE_MARGIN_PX)
    room_px = width_px - 2 * _SIDE_MARGIN_PX - 2 * inside_px
    for size in _TILE_SIZES:
        if count * (size.width_px + _GAP_PX) - _GAP_PX <= room_px:
            total_px = count * (size.width_px + _GAP_PX) - _GAP_PX
            left_px = (width_px - total_px) / 2
            top_px = (main_height_px - size.height_px) / 2
            step_px = size.width_px + _GAP_PX
            return size, [
                (
                    left_px + i * step_px,
                    top_px,
                    left_px + i * step_px + size.width_px,
                    top_px + size.height_px,
                )
                for i in range(count)
            ]
    raise ValueError(f"{count} tiles do not fit in one row of {width_px} px")


def look_at_tile(picture: Rgb, size: TileSize, box: Box) -> TileView:
    """Name and ring of the tile at `box`."""
    left, _, right, bottom = (round(v) for v in box)
    centre_x = (box[0] + box[2]) / 2
    expected_y = box[1] + size.padding_px + size.avatar_px / 2
    share = max(
        _ring_share(picture, centre_x, expected_y + shift, size.avatar_px / 2)
        for shift in range(-_RING_SEARCH_PX, _RING_SEARCH_PX + 1, 2)
    )
    name_top = round(expected_y + size.avatar_px / 2 + size.gap_px / 2)
    text = picture[name_top:bottom, left:right].astype(np.int16)
    return TileView(int((text.min(axis=2) > _WHITE_LUMA).sum()), share)


def contained(
    width_px: int, height_px: int, *, source: tuple[int, int] = (SOURCE_WIDTH_PX, SOURCE_HEIGHT_PX)
) -> Box:
    """Where a shared screen is shown: as large as fits above the footer, centred (section 7.3)."""
    room_px = height_px - FOOTER_PX
    scale = min(width_px / source[0], room_px / source[1])
    shown = (source[0] * scale, source[1] * scale)
    left, top = (width_px - shown[0]) / 2, (room_px - shown[1]) / 2
    return left, top, left + shown[0], top + shown[1]


def corners_present(picture: Rgb, area: Box) -> list[str]:
    """Which corner squares of the shared picture are where they belong in `area`.

    Coloured just inside the outermost point of the corner, and not just outside of it: a picture that is
    cropped, shifted or of another size fails.
    """
    return [name for name in CORNERS if _corner_at_its_place(picture, area, name)]


def corners_left(picture: Rgb, area: Box) -> list[str]:
    """Which corner squares show their colour at all: what must not be there without a share."""
    middle_px = _corner_px(area) / 2
    return [name for name in CORNERS if _coloured(picture, area, name, middle_px, middle_px)]


def _corner_at_its_place(picture: Rgb, area: Box, name: str) -> bool:
    middle_px = _corner_px(area) / 2
    return (
        _coloured(picture, area, name, _EDGE_PX, _EDGE_PX)
        and _coloured(picture, area, name, middle_px, middle_px)
        and not _coloured(picture, area, name, -_EDGE_PX, middle_px)
        and not _coloured(picture, area, name, middle_px, -_EDGE_PX)
    )


def _coloured(picture: Rgb, area: Box, name: str, inward_x: float, inward_y: float) -> bool:
    """Has the point so far inwards from the corner of `area` that corner's colour?"""
    x = area[0] + inward_x if name.endswith("left") else area[2] - inward_x
    y = area[1] + inward_y if name.startswith("top") else area[3] - inward_y
    colour = _patch_colour(picture, x, y)
    return (
        colour is not None and np.abs(colour - np.array(CORNERS[name])).max() <= _CORNER_TOLERANCE
    )


def _corner_px(area: Box) -> float:
    return CORNER_PX * (area[2] - area[0]) / SOURCE_WIDTH_PX


def _patch_colour(picture: Rgb, x: float, y: float) -> NDArray[np.float64] | None:
    """The median colour around a point; None outside of the picture."""
    rows = slice(max(round(y) - _PATCH_PX, 0), max(round(y) + _PATCH_PX + 1, 0))
    columns = slice(max(round(x) - _PATCH_PX, 0), max(round(x) + _PATCH_PX + 1, 0))
    patch = picture[rows, columns].reshape(-1, 3)
    return np.median(patch, axis=0) if len(patch) else None


def _ring_share(picture: Rgb, centre_x: float, centre_y: float, radius: float) -> float:
    """At how many of the angles the ring's colour is seen, at one of the radii."""
    angles = np.radians(np.array(_RING_ANGLES, np.float64))[:, np.newaxis]
    radii = radius + np.array(_RING_RADII_PX, np.float64)
    columns = np.rint(centre_x + radii * np.cos(angles)).astype(np.intp)
    rows = np.rint(centre_y + radii * np.sin(angles)).astype(np.intp)
    height, width = picture.shape[:2]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    seen = picture[rows.clip(0, height - 1), columns.clip(0, width - 1)].astype(np.int16)
    red, green, blue = np.moveaxis(seen, -1, 0)
    near = (np.abs(seen - np.array(RING_RGB, np.int16)) <= _RING_TOLERANCE).all(axis=-1)
    hits = inside & near & (green - red > _RING_GREENNESS) & (green > blue)
    return float(hits.any(axis=1).mean())
