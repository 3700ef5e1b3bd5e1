"""Which pieces a frame is made of, and how each is painted (calls-plugin.md 7.1–7.4).

A piece has a look: everything that its picture depends on. Whoever keeps a picture by its look need not
have it painted again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Protocol

from PIL import Image

from jobs.recorder import layout
from jobs.recorder.drawing import chips, text
from jobs.recorder.drawing.colours import BACKGROUND, BLACK, CONTAINER, QUIET_TEXT
from jobs.recorder.drawing.footer import FooterLook, draw_footer
from jobs.recorder.drawing.shapes import fill_rounded
from jobs.recorder.drawing.text import Style
from jobs.recorder.drawing.tile import TileLook, camera_box, camera_mask, draw_tile
from jobs.recorder.layout import Box, Grid
from jobs.recorder.scene import Scene, Tile

_CONTAINER_RADIUS_PX: Final = 8
_WAITING: Final = "Waiting for participants"
_WAITING_FONT_PX: Final = 20
_WAITING_LINE_PX: Final = 40


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle of the frame that hides what is under it."""

    box: Box
    look: Hashable
    paint: Callable[[], Image.Image]
    """RGB of the box's size."""
    passing: bool = False
    """It looks so in this minute only: there is no use in keeping it any longer."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Where a camera's picture shows through its tile."""

    session_id: str
    box: Box
    look: Hashable
    paint_mask: Callable[[], Image.Image]
    """How much of it shows, 0…255."""


@dataclass(frozen=True, slots=True)
class Floating:
    """Something half transparent over everything else."""

    box: Box
    look: Hashable
    paint: Callable[[], tuple[Image.Image, Image.Image]]
    """RGB and mask, 0…255."""


class Arrange(Protocol):
    """Where so many tiles go: `jobs.recorder.layout.grid`, `jobs.recorder.speaker_layout.arrange`."""

    def __call__(self, count: int, /, *, width: int, height: int) -> Grid: ...


class Painter:
    """For one size of picture. Blocking; owned by one thread."""

    def __init__(self, width: int, height: int, arrange: Arrange = layout.grid) -> None:
        """Both even, px."""
        self._arrange = arrange
        self._width, self._height = width, height
        self._unit = layout.unit(width, height)
        self._area = layout.main_area(width, height)

    def blank(self, *, shared: bool, top: int, height: int) -> Image.Image:
        """RGB of so many rows of the frame without any piece; `shared`: for a shared screen."""
        image = Image.new("RGB", (self._width, height), BACKGROUND)
        if not shared:
            room = layout.container(self._width, self._height)
            radius = round(_CONTAINER_RADIUS_PX * self._unit)
            place = room.left, room.top - top, room.width, room.height
            fill_rounded(image, *place, radius, CONTAINER)
        footer = layout.footer(self._width, self._height)
        image.paste(BLACK, (footer.left, footer.top - top, footer.right, footer.bottom - top))
        return image

    def grid(
        self,
        scene: Scene,
        speaking: frozenset[str],
        minute: datetime,
        cameras: frozenset[str],
    ) -> tuple[list[Piece], list[Hole]]:
        """A tile for each session: `speaking` ones with a ring, those in `cameras` with a hole."""
        pieces = [self._footer(scene, minute, None)]
        holes: list[Hole] = []
        if not scene.tiles:
            if not scene.participants:  # else their names are on the way
                pieces.append(self._waiting())
            return pieces, holes
        places = self._arrange(len(scene.tiles), width=self._width, height=self._height)
        for number, (tile, box) in enumerate(zip(scene.tiles, places.boxes, strict=False)):
            session_id, size = tile.session_id, places.size_of(number)
            look = TileLook.of(
                tile,
                size,
                speaking=session_id in speaking,
                camera=session_id in cameras,
            )
            pieces.append(Piece(box, look, partial(draw_tile, look)))
            if look.camera:
                inner = camera_box(size)
                hole = Box(box.left + inner.left, box.top + inner.top, inner.width, inner.height)
                holes.append(Hole(session_id, hole, look, partial(camera_mask, look)))
        return pieces, holes

    def behind_screen(
        self, scene: Scene, speaking: frozenset[str], minute: datetime
    ) -> list[Piece]:
        """What is beside a shared screen."""
        talking = next((t for t in scene.tiles if t.session_id in speaking), None)
        return [self._footer(scene, minute, talking)]

    def floating(
        self, scene: Scene, *, shared: bool, lost_s: int | None, interrupted: bool = False
    ) -> list[Floating]:
        """From the lowest to the highest."""
        column = layout.column(self._width, self._height)
        placed = list(chips.place_column(chips.column_chips(scene), column, self._unit))
        if shared:
            sharer = next(
                (t.person.name for t in scene.tiles if t.session_id == scene.screen_session_id),
                None,
            )
            if sharer is not None:
                placed.append(chips.pill(sharer, self._area, self._unit))
        if lost_s is not None:
            placed.append(chips.lost_connection(lost_s, self._area, self._unit))
        elif interrupted:
            placed.append(chips.interrupted(self._area, self._unit))
        return [Floating(chip.box, chip, partial(chips.draw_chip, chip)) for chip in placed]

    def _footer(self, scene: Scene, minute: datetime, talking: Tile | None) -> Piece:
        box = layout.footer(self._width, self._height)
        look = FooterLook(minute, scene.participants, talking.person if talking else None)
        return Piece(box, look, partial(draw_footer, look, box, self._unit), passing=True)

    def _waiting(self) -> Piece:
        """For a call that nobody is in yet."""
        width, height = self._area.width // 4 * 2, layout.even(_WAITING_LINE_PX * self._unit)
        left, top = (self._area.width - width) // 4 * 2, (self._area.height - height) // 4 * 2
        return Piece(
            Box(left, top, width, height), _WAITING, partial(self._paint_waiting, width, height)
        )

    def _paint_waiting(self, width: int, height: int) -> Image.Image:
        image = Image.new("RGB", (width, height), CONTAINER)
        style = Style(round(_WAITING_FONT_PX * self._unit), bold=False)
        text.draw(image, (width / 2, height / 2), _WAITING, style, QUIET_TEXT, align="centre")
        return image
