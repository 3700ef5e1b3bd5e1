"""Goes through a recording's pictures once: brightness of the shared screen, and a look at given moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.analysis.call import Expectation, Moment
from testbed.analysis.marks import flash_onsets, screen_brightness
from testbed.analysis.media import Rgb, iter_pictures, luma, rgb
from testbed.analysis.pictures import (
    MIN_NAME_PIXELS,
    TileView,
    contained,
    corners_left,
    corners_present,
    look_at_tile,
    tile_boxes,
)
from testbed.bots.picture import CORNERS

RING_PRESENT_SHARE: Final = 0.6
"""Of the avatar's upper edge; blur takes some of it."""
RING_ABSENT_SHARE: Final = 0.25
"""Chance hits of an avatar's own colours."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment."""

    moment: Moment
    corners: tuple[str, ...]
    """Corner squares of the shared picture at their place."""
    left: tuple[str, ...]
    """Corner squares that show at all."""
    tiles: Mapping[str, TileView]
    """By bot; empty when not judged."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the pictures of a recording show."""

    flashes_s: tuple[float, ...]
    looks: tuple[Look, ...]


@dataclass(frozen=True, slots=True)
class PictureFault:
    """A moment at which the picture is not what it must be."""

    at_s: float
    what: str


def watch(path: Path, moments: Sequence[Moment], *, width_px: int, height_px: int) -> Watched:
    """Look at every picture of `path`; `moments` in order of time. Raises MediaError."""
    area = contained(width_px, height_px)
    brightness: list[tuple[float, float]] = []
    looks: list[Look] = []
    waiting = list(moments)
    shown = None
    for at_s, frame in iter_pictures(path):
        brightness.append((at_s, screen_brightness(luma(frame), area)))
        # A picture is on show until the next one comes.
        while waiting and waiting[0].at_s < at_s and shown is not None:
            looks.append(look(rgb(shown), waiting.pop(0)))
        shown = frame
    if shown is not None:
        looks += [look(rgb(shown), moment) for moment in waiting]
    return Watched(tuple(flash_onsets(brightness)), tuple(looks))


def look(picture: Rgb, moment: Moment) -> Look:
    """See what matters at `moment`."""
    height_px, width_px = picture.shape[:2]
    area = contained(width_px, height_px)
    tiles: dict[str, TileView] = {}
    if moment.tiles:
        size, boxes = tile_boxes(len(moment.tiles), width_px=width_px, height_px=height_px)
        for bot, box in zip(moment.tiles, boxes, strict=True):
            tiles[bot] = look_at_tile(picture, size, box)
    return Look(
        moment, tuple(corners_present(picture, area)), tuple(corners_left(picture, area)), tiles
    )


def screen_faults(looks: Sequence[Look]) -> list[PictureFault]:
    """Corners of the shared screen that are missing, or still there without a share."""
    faults = []
    for seen in looks:
        missing = sorted(set(CORNERS) - set(seen.corners))
        if seen.moment.screen == "required" and missing:
            faults.append(PictureFault(seen.moment.at_s, f"corner {', '.join(missing)} missing"))
        elif seen.moment.screen == "forbidden" and seen.left:
            left = ", ".join(seen.left)
            faults.append(PictureFault(seen.moment.at_s, f"corner {left} without a share"))
    return faults


def name_faults(looks: Sequence[Look]) -> list[PictureFault]:
    """Tiles without a name in them."""
    return [
        PictureFault(seen.moment.at_s, f"no name in the tile of {bot}")
        for seen in looks
        for bot, tile in seen.tiles.items()
        if tile.name_pixels < MIN_NAME_PIXELS
    ]


def ring_faults(looks: Sequence[Look]) -> list[PictureFault]:
    """Rings that are missing while somebody speaks, or glow in silence."""
    faults = []
    for seen in looks:
        for bot, tile in seen.tiles.items():
            expected: Expectation = (seen.moment.ring or {}).get(bot, "open")
            if expected == "required" and tile.ring_share < RING_PRESENT_SHARE:
                faults.append(PictureFault(seen.moment.at_s, f"{bot} speaks without a ring"))
            elif expected == "forbidden" and tile.ring_share > RING_ABSENT_SHARE:
                faults.append(PictureFault(seen.moment.at_s, f"{bot} has a ring in silence"))
    return faults


def count_rings(looks: Sequence[Look], expected: Expectation) -> int:
    """How many judgements of that kind were made."""
    return sum(list((seen.moment.ring or {}).values()).count(expected) for seen in looks)
