"""Puts scene and shared screen together as YUV 4:2:0, drawing only what has changed.

The matrix is BT.601 with limited range, as in VP8, and the file says so: the shared screen is scaled but
never converted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from jobs.recorder import layout
from jobs.recorder.drawing.painter import Painter
from jobs.recorder.layout import Box
from jobs.recorder.scene import Scene
from jobs.recorder.screen import ScreenPicture

Planes = NDArray[np.uint8]
"""height × 3/2 rows of width bytes: Y, then U, then V."""
_PIXEL_FORMAT: Final = "yuv420p"


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


class Compositor:
    """Frames of one size. Blocking; owned by one thread."""

    def __init__(self, width: int, height: int) -> None:
        """Both even, px."""
        self._width, self._height = width, height
        self._painter = Painter(width, height)
        self._to_yuv = VideoReformatter()
        self._scaler = VideoReformatter()
        self._base_view: View | None = None
        self._base: Planes = np.zeros((height * 3 // 2, width), np.uint8)
        self._pill_of: str | None = None
        self._pill: _Overlay | None = None

    def compose(self, view: View) -> Planes:
        """The frame; the caller may keep it but not write into it."""
        behind = View(view.scene, view.speaking, view.minute)
        if view.screen is None:
            self._draw_base(behind, shared=False)
            return self._base
        self._draw_base(behind, shared=True)
        planes = self._base.copy()
        self._put_screen(planes, view.screen.frame)
        pill = self._pill_for(view.scene)
        if pill is not None:
            pill.blend_into(planes)
        return planes

    def _draw_base(self, view: View, *, shared: bool) -> None:
        key = View(view.scene, view.speaking, view.minute, _SHARED if shared else None)
        if key == self._base_view:
            return
        paint = self._painter.paint_behind_screen if shared else self._painter.paint_grid
        image = paint(view.scene, view.speaking, view.minute)
        self._base = self._planes(image)
        self._base_view = key

    def _put_screen(self, planes: Planes, frame: av.VideoFrame) -> None:
        box = layout.contained(frame.width, frame.height, width=self._width, height=self._height)
        scaled = self._scaler.reformat(
            frame,
            width=box.width,
            height=box.height,
            format=_PIXEL_FORMAT,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
        target, source = split(planes), split(scaled.to_ndarray())
        for number, (out, values) in enumerate(zip(target, source, strict=True)):
            half = 1 if number == 0 else 2
            rows = slice(box.top // half, box.bottom // half)
            out[rows, box.left // half : box.right // half] = values

    def _pill_for(self, scene: Scene) -> _Overlay | None:
        sharer = next(
            (t.person.name for t in scene.tiles if t.session_id == scene.screen_session_id), None
        )
        if sharer != self._pill_of:
            self._pill_of, self._pill = sharer, None
            if sharer is not None:
                image, mask, box = self._painter.paint_pill(sharer)
                self._pill = _Overlay.of(self._planes(image), mask, box)
        return self._pill

    def _planes(self, image: Image.Image) -> Planes:
        frame = self._to_yuv.reformat(
            av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24"),
            format=_PIXEL_FORMAT,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        return np.ascontiguousarray(frame.to_ndarray(), dtype=np.uint8)


_SHARED: Final = ScreenPicture(0, av.VideoFrame(2, 2, _PIXEL_FORMAT))
"""Stands for any shared picture in the key of what is behind it."""


@dataclass(frozen=True, slots=True)
class _Overlay:
    """Something half transparent at a fixed place."""

    planes: tuple[NDArray[np.float32], ...]
    """Already multiplied by their opacity."""
    through: tuple[NDArray[np.float32], ...]
    """How much of what is behind shows, 0…1."""
    box: Box

    @classmethod
    def of(cls, planes: Planes, mask: Image.Image, box: Box) -> _Overlay:
        alpha: NDArray[np.float32] = np.asarray(mask, dtype=np.float32) / np.float32(255)
        small: NDArray[np.float32] = alpha.reshape(box.height // 2, 2, box.width // 2, 2).mean(
            axis=(1, 3)
        )
        alphas = (alpha, small, small)
        return cls(
            tuple(p.astype(np.float32) * a for p, a in zip(split(planes), alphas, strict=True)),
            tuple(1 - a for a in alphas),
            box,
        )

    def blend_into(self, planes: Planes) -> None:
        for number, out in enumerate(split(planes)):
            half = 1 if number == 0 else 2
            rows = slice(self.box.top // half, self.box.bottom // half)
            part = out[rows, self.box.left // half : self.box.right // half]
            mixed = part * self.through[number] + self.planes[number]
            part[:] = np.rint(mixed).astype(np.uint8)


def split(planes: NDArray[np.generic]) -> tuple[Planes, Planes, Planes]:
    """Views of Y, U and V in one array of 4:2:0 planes."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    values = planes.view(np.uint8)
    chroma = values[height:].reshape(2, height // 2, width // 2)
    return values[:height], chroma[0], chroma[1]
