"""Puts scene, shared screen and cameras together as YUV 4:2:0; paints and converts only what has changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from jobs.recorder import layout
from jobs.recorder.drawing.fonts import warn_of_missing_parts
from jobs.recorder.drawing.painter import Arrange, Floating, Hole, Painter, Piece
from jobs.recorder.layout import Box
from jobs.recorder.mishaps import Mishaps
from jobs.recorder.planes import Converter, Mask, Planes, blank, blend, put
from jobs.recorder.scene import Scene
from jobs.recorder.screen import ScreenPicture

_KEPT_BYTES: Final = 24 * 1024 * 1024
"""Of painted pieces: the tiles of 60 people at 1080p, muted, speaking and both."""
_HOLES_KEPT: Final = 256
_BAND_PX: Final = 64
_SPOILT_LUMA: Final = 57
"""Of the grid's ground: what a piece looks like that cannot be painted."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything that one frame of the recording depends on."""

    scene: Scene
    speaking: frozenset[str]
    """Sessions with a ring."""
    minute: datetime
    """UTC, cut to the minute."""
    screen: ScreenPicture | None = None
    """What is shared, or None for the grid."""
    cameras: tuple[tuple[str, ScreenPicture], ...] = ()
    """The newest picture by session, of those whose camera is on; the grid alone shows them."""
    lost_s: int | None = None
    """How long the connection to the call has been lost."""
    interrupted: bool = False
    """Moving pictures stand still because their decoder was lost; they come back at once."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """Painted and converted; with a mask where something shows through."""

    planes: Planes
    mask: Mask | None = None

    @property
    def size_bytes(self) -> int:
        return self.planes.nbytes * (3 if self.mask is not None else 1)


class Compositor:
    """Frames of one size. Blocking; owned by one thread.

    A piece that cannot be painted is left out, and tried again with the next minute.
    """

    def __init__(
        self,
        width: int,
        height: int,
        arrange: Arrange = layout.grid,
        *,
        mishaps: Mishaps | None = None,
    ) -> None:
        """Both even, px."""
        self._mishaps = mishaps or Mishaps()
        self._spoilt: set[Hashable] = set()
        """Looks of pieces that could not be painted in this minute."""
        self._width, self._height = width, height
        self._painter = Painter(width, height, arrange)
        self._converter = Converter()
        self._kept: OrderedDict[Hashable, _Picture] = OrderedDict()
        self.kept_bytes = 0
        """Of pieces that need not be painted again."""
        self._minute: datetime | None = None
        self._of_minute: set[Hashable] = set()
        """Kept ones that no other minute shows."""
        self._holes: dict[Hashable, Mask] = {}
        self._view: View | None = None
        self._composed: Planes | None = None
        """The newest frame, of `_view`."""
        self._room: Planes | None = None
        """For what lies over the base; always the same, for a frame is large."""
        self._scaled: tuple[ScreenPicture, Planes] | None = None
        """The newest picture of a shared screen in its size here: around it others change more often."""
        self._base: Planes | None = None
        self._base_shared = False
        self._base_looks: dict[Box, Hashable] = {}
        self.pieces_painted = 0
        """Painted and converted, because no kept one looked so."""
        self.pieces_put = 0
        """Put into the frame, because what was there looked otherwise."""
        warn_of_missing_parts()

    def compose(self, view: View) -> Planes:
        """The frame. It is read-only for the caller, and belongs to the next call again."""
        if self._composed is None or view != self._view:
            self._composed = None  # what is half made is not shown again as something whole
            self._composed, self._view = self._made(view), view
        return self._composed

    def _made(self, view: View) -> Planes:
        self._forget_other_minutes(view.minute)
        shared = view.screen is not None
        if not shared:
            self._scaled = None
        cameras = dict(view.cameras)
        if shared:
            pieces = self._painter.behind_screen(view.scene, view.speaking, view.minute)
            holes: list[Hole] = []
        else:
            pieces, holes = self._painter.grid(
                view.scene, view.speaking, view.minute, frozenset(cameras)
            )
        base = self._update_base(pieces, shared=shared)
        floating = self._painter.floating(
            view.scene, shared=shared, lost_s=view.lost_s, interrupted=view.interrupted
        )
        if not (shared or holes or floating):
            return base
        if self._room is None:
            self._room = np.empty_like(base)
        planes = self._room
        np.copyto(planes, base)
        if view.screen is not None:
            self._put_screen(planes, view.screen)
        for hole in holes:
            self._put_camera(planes, hole, cameras[hole.session_id])
        for item in floating:
            picture = self._floating(item)
            if picture is not None and picture.mask is not None:
                blend(planes, picture.planes, picture.mask, item.box)
        return planes

    def blank(self) -> Planes:
        """A frame with nothing in it."""
        return blank(self._width, self._height)

    def _update_base(self, pieces: list[Piece], *, shared: bool) -> Planes:
        looks = {piece.box: piece.look for piece in pieces}
        base, self._base = self._base, None  # until all is in it: a failure in between begins anew
        if base is None or shared != self._base_shared or looks.keys() != self._base_looks.keys():
            # Not kept: a frame is large, and places change only when people come or go, or a screen does.
            base, self._base_looks = self._blank(shared=shared), {}
        for piece in pieces:
            if self._base_looks.get(piece.box) != piece.look:
                put(base, self._piece(piece), piece.box)
                self.pieces_put += 1
        self._base, self._base_shared, self._base_looks = base, shared, looks
        return base

    def _put_screen(self, planes: Planes, picture: ScreenPicture) -> None:
        frame = picture.frame
        box = layout.contained(frame.width, frame.height, width=self._width, height=self._height)
        if self._scaled is None or self._scaled[0] is not picture:
            self._scaled = None
            try:
                scaled = self._converter.scaled(frame, box.width, box.height)
            except Exception as error:  # noqa: BLE001 - the next picture may do, and the sound goes on
                self._mishaps.note("screen", error)
                return
            self._scaled = picture, scaled
        put(planes, self._scaled[1], box)

    def _put_camera(self, planes: Planes, hole: Hole, picture: ScreenPicture) -> None:
        mask = self._holes.get(hole.look)
        try:
            if mask is None:
                if len(self._holes) >= _HOLES_KEPT:
                    self._holes.clear()
                mask = self._holes[hole.look] = Mask.of(hole.paint_mask())
            covering = self._converter.covering(picture.frame, hole.box.width, hole.box.height)
        except Exception as error:  # noqa: BLE001 - as of screens
            self._mishaps.note("camera", error)
            return
        blend(planes, covering, mask, hole.box)

    def _piece(self, piece: Piece) -> Planes:
        look = (piece.look, (piece.box.width, piece.box.height))
        if piece.passing:
            self._of_minute.add(look)
        picture = self._unless_spoilt(look, lambda: _Picture(self._converter.planes(piece.paint())))
        if picture is None:
            return blank(piece.box.width, piece.box.height, _SPOILT_LUMA)
        return picture.planes

    def _floating(self, item: Floating) -> _Picture | None:
        def paint() -> _Picture:
            image, mask = item.paint()
            return _Picture(self._converter.planes(image), Mask.of(mask))

        return self._unless_spoilt(item.look, paint)

    def _unless_spoilt(self, look: Hashable, paint: Callable[[], _Picture]) -> _Picture | None:
        """None: it cannot be painted."""
        if look in self._spoilt:
            return None
        try:
            return self._picture(look, paint)
        except Exception as error:  # noqa: BLE001 - names and pictures of strangers cost their piece only
            self._mishaps.note("drawing", error)
            self._spoilt.add(look)
            return None

    def _blank(self, *, shared: bool) -> Planes:
        """Painted and converted in bands: a whole frame in RGB takes four bytes for each pixel."""
        planes = np.empty((self._height * 3 // 2, self._width), np.uint8)
        for top in range(0, self._height, _BAND_PX):
            box = Box(0, top, self._width, min(_BAND_PX, self._height - top))
            band = self._painter.blank(shared=shared, top=top, height=box.height)
            put(planes, self._converter.planes(band), box)
        return planes

    def _forget_other_minutes(self, minute: datetime) -> None:
        if minute == self._minute:
            return
        for look in self._of_minute:
            gone = self._kept.pop(look, None)
            if gone is not None:
                self.kept_bytes -= gone.size_bytes
        self._minute, self._of_minute = minute, set()
        if self._spoilt:
            self._spoilt.clear()
            self._base = None

    def _picture(self, look: Hashable, paint: Callable[[], _Picture]) -> _Picture:
        """From what is kept, or painted; what has not been used for longest goes."""
        picture = self._kept.pop(look, None)
        if picture is None:
            picture = paint()
            self.pieces_painted += 1
            self.kept_bytes += picture.size_bytes
        self._kept[look] = picture  # the newest at the end
        while self.kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self.kept_bytes -= oldest.size_bytes
        return picture
