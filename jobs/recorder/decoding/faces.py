"""A user's picture to a small square. Loads Pillow: in the decoding process only, and in tests."""

from __future__ import annotations

import io
import warnings
from typing import Final

from PIL import (
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from jobs.recorder.decoding.limits import FACE_PX, PICTURE_BYTES, PICTURE_PIXELS

_FORMATS: Final = tuple(
    plugin.format
    for plugin in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        GifImagePlugin.GifImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
"""What Mattermost takes for a profile; every further one is a further parser of foreign bytes."""


class PictureRefused(Exception):
    """Too large, several frames, or none of the formats; the message says which."""


def face(data: bytes | bytearray) -> bytes:
    """RGB, row after row, of the middle square of a picture, at most FACE_PX wide. Blocks.

    Raises:
        PictureRefused: the file or the picture is too large, it moves, or it is none that is taken.
        Exception: whatever Pillow meets in a broken one.
    """
    if len(data) > PICTURE_BYTES:
        raise PictureRefused(f"{len(data)} bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        except UnidentifiedImageError:
            raise PictureRefused("none of the formats") from None
        with image:
            if image.width * image.height > PICTURE_PIXELS:
                raise PictureRefused(f"{image.width}×{image.height} px")
            if getattr(image, "n_frames", 1) > 1:
                raise PictureRefused("several frames")
            side = min(FACE_PX, *image.size)
            image.draft("RGB", (side * 2, side * 2))
            return ImageOps.fit(image.convert("RGB"), (side, side)).tobytes()


def warm_up() -> None:
    """Load what Pillow loads late: afterwards no file can be opened."""
    for name in _FORMATS:
        out = io.BytesIO()
        Image.new("RGB", (2, 2)).save(out, name)
        face(out.getvalue())
