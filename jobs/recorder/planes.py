"""Pictures as YUV 4:2:0 planes: from RGB, into one another, and half transparent.

The matrix is BT.601 with limited range, as in VP8, and the file says so: what VP8 carries is scaled but never
converted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from jobs.recorder.layout import Box

Planes = NDArray[np.uint8]
"""height × 3/2 rows of width bytes: Y, then U, then V. Both sides even."""
PIXEL_FORMAT: Final = "yuv420p"
_AT_ONCE_PX: Final = 600_000
"""Larger pictures, which are whole frames, are converted in bands: on the way each needs five times its size,
and what a heap has once had it mostly keeps."""
_BAND_PX: Final = 64
Three = tuple[Planes, Planes, Planes]


def split(planes: Planes) -> Three:
    """Views of Y, U and V."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    return planes[:height], chroma[0], chroma[1]


def blank(width: int, height: int, luma: int = 16) -> Planes:
    """Grey, by default black; both sides even."""
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = luma
    return planes


def frame_of(planes: Planes) -> av.VideoFrame:
    """The same memory as FFmpeg's frame: not to be changed while that is in use. Of unusual sizes a copy, as
    PyAV shares heights only that are whole fours, and FFmpeg wants rows that begin at whole sixteens."""
    if planes.shape[0] % 6 or planes.shape[1] % 32:
        return av.VideoFrame.from_ndarray(planes, format=PIXEL_FORMAT)
    return av.VideoFrame.from_numpy_buffer(planes, format=PIXEL_FORMAT)


class Converter:
    """Owned by one thread."""

    def __init__(self) -> None:
        self._to_yuv = VideoReformatter()
        self._scaler = VideoReformatter()

    def planes(self, image: Image.Image) -> Planes:
        """Of an RGB image with even sides."""
        if image.width * image.height <= _AT_ONCE_PX:
            return self._converted(image)
        out = np.empty((image.height * 3 // 2, image.width), np.uint8)
        for top in range(0, image.height, _BAND_PX):
            box = Box(0, top, image.width, min(_BAND_PX, image.height - top))
            band = image.crop((box.left, box.top, box.right, box.bottom))
            put(out, self._converted(band), box)
        return out

    def _converted(self, image: Image.Image) -> Planes:
        frame = self._to_yuv.reformat(
            av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24"),
            format=PIXEL_FORMAT,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        return _copied(frame)

    def scaled(self, frame: av.VideoFrame, width: int, height: int) -> Planes:
        """A YUV frame in another size, both even."""
        scaled = self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format=PIXEL_FORMAT,
            interpolation=Interpolation.BILINEAR,
            # Costs nothing for what has that matrix already: VP8 always, AV1 mostly.
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        return _copied(scaled)

    def covering(self, frame: av.VideoFrame, width: int, height: int) -> Planes:
        """A YUV frame scaled so that it covers that size, and its middle."""
        scale = max(width / frame.width, height / frame.height)
        across = max(width, 2 * round(frame.width * scale / 2))
        down = max(height, 2 * round(frame.height * scale / 2))
        whole = self.scaled(frame, across, down)
        if (across, down) == (width, height):
            return whole
        out = np.empty((height * 3 // 2, width), np.uint8)
        left, top = (across - width) // 4 * 2, (down - height) // 4 * 2
        for number, (to, values) in enumerate(zip(split(out), split(whole), strict=True)):
            half = 1 if number == 0 else 2
            to[:] = values[
                top // half : (top + height) // half, left // half : (left + width) // half
            ]
        return out


def _copied(frame: av.VideoFrame) -> Planes:
    """Of 8-bit YUV 4:2:0. Copied once; PyAV does it twice."""
    out = np.empty((frame.height * 3 // 2, frame.width), np.uint8)
    for to, plane in zip(split(out), frame.planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        to[:] = rows[:, : plane.width]
    return out


def part(planes: Planes, box: Box) -> Three:
    """Views of a rectangle with even edges."""
    luma, *chroma = split(planes)
    rows, columns = slice(box.top // 2, box.bottom // 2), slice(box.left // 2, box.right // 2)
    return (
        luma[box.top : box.bottom, box.left : box.right],
        chroma[0][rows, columns],
        chroma[1][rows, columns],
    )


def put(planes: Planes, picture: Planes, box: Box) -> None:
    """Copy `picture`, which is as large as `box`, to its place."""
    for out, values in zip(part(planes, box), split(picture), strict=True):
        out[:] = values


@dataclass(frozen=True, slots=True)
class Mask:
    """How much of a picture shows, for each of its planes: 0…256."""

    shares: tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]

    @classmethod
    def of(cls, mask: Image.Image) -> Mask:
        """From 0…255; even sides."""
        values = np.asarray(mask, dtype=np.uint16)
        shares = values + (values >> 7)
        height, width = values.shape
        small = shares.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3), dtype=np.uint16) >> 2
        return cls((shares, small, small))


def blend(planes: Planes, picture: Planes, mask: Mask, box: Box) -> None:
    """Put `picture`, which is as large as `box`, over what is there."""
    for out, values, share in zip(part(planes, box), split(picture), mask.shares, strict=True):
        # At most 255 × 256 in all: 16 bits hold it.
        mixed = out * (256 - share) + values * share + np.uint16(128)
        out[:] = mixed >> 8
