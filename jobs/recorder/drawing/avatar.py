"""A user's round picture."""

from __future__ import annotations

import io
import warnings
import zlib
from functools import lru_cache
from typing import Final

from PIL import Image, ImageOps

from foundation.logs import get_logger
from jobs.recorder.drawing import text
from jobs.recorder.drawing.colours import WHITE
from jobs.recorder.drawing.shapes import Rgb, disc
from jobs.recorder.drawing.text import Style
from jobs.recorder.scene import Person

_COLOURS: Final[tuple[Rgb, ...]] = (
    (84, 106, 173),
    (143, 92, 156),
    (172, 98, 82),
    (78, 124, 140),
    (126, 118, 72),
)
"""Behind initials; none is near the speaking ring's green."""
_LETTERS_SHARE: Final = 0.64
"""Of the disc's width."""
_LARGEST_PX: Final = 320
_MAX_PIXELS: Final = 40_000_000
_log = get_logger(component="avatar")


@lru_cache(maxsize=256)
def avatar(person: Person, diameter: int, background: Rgb) -> Image.Image:
    """Square RGB image: the picture as a disc on `background`; initials where there is no usable one."""
    face = _picture(person.picture, diameter) if person.picture else None
    out = Image.new("RGB", (diameter, diameter), background)
    out.paste(face or _initials(person, diameter), mask=disc(diameter))
    return out


def initials(name: str) -> str:
    """Of the first two words; of an emoji's name the emoji."""
    words = [text.clusters(word) for word in name.split()]
    return "".join(word[0] for word in words[:2] if word).upper()


def shrunk(data: bytes) -> bytes:
    """A large picture as small as the largest tile needs it; empty if there is no usable one. Blocks."""
    face = _picture(data, _LARGEST_PX)
    if face is None:
        return b""
    out = io.BytesIO()
    face.save(out, "JPEG", quality=92)
    return out.getvalue()


def _picture(data: bytes, diameter: int) -> Image.Image | None:
    try:
        with warnings.catch_warnings():
            # A picture that unpacks to gigabytes is refused, not only complained about.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise ValueError("too many pixels")
                image.draft("RGB", (diameter * 2, diameter * 2))
                return ImageOps.fit(image.convert("RGB"), (diameter, diameter))
    except Exception as error:  # noqa: BLE001 - decoders raise anything for a hostile file
        # The recording goes on with initials.
        _log.warning("picture.unusable", reason=type(error).__name__)
        return None


def _initials(person: Person, diameter: int) -> Image.Image:
    colour = _COLOURS[zlib.crc32(person.user_id.encode()) % len(_COLOURS)]
    image = Image.new("RGB", (diameter, diameter), colour)
    letters, middle = initials(person.name), diameter / 2
    size = diameter * 0.4
    wide = text.width(letters, Style(max(6, round(size))))
    size *= min(1.0, diameter * _LETTERS_SHARE / max(1.0, wide))
    style = Style(max(6, round(size)))
    text.draw(image, (middle, middle), letters, style, WHITE, align="centre")
    return image
