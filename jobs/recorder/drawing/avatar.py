"""A user's round picture."""

from __future__ import annotations

import io
import warnings
import zlib
from typing import Final

from PIL import Image, ImageDraw, ImageOps

from foundation.logs import get_logger
from jobs.recorder.drawing.shapes import Rgb, disc
from jobs.recorder.drawing.text import semibold
from jobs.recorder.scene import Person

_COLOURS: Final[tuple[Rgb, ...]] = (
    (84, 106, 173),
    (143, 92, 156),
    (172, 98, 82),
    (78, 124, 140),
    (126, 118, 72),
)
"""Behind initials; none is near the speaking ring's green."""
_MAX_PIXELS: Final = 40_000_000
_log = get_logger(component="avatar")


def avatar(person: Person, diameter: int, background: Rgb) -> Image.Image:
    """Square RGB image: the picture as a disc on `background`; initials where there is no usable one."""
    face = _picture(person.picture, diameter) if person.picture else None
    out = Image.new("RGB", (diameter, diameter), background)
    out.paste(face or _initials(person, diameter), mask=disc(diameter))
    return out


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
    except Exception as error:  # noqa: BLE001
        # Any decoder may raise anything for a hostile file; the recording goes on with initials.
        _log.warning("picture.unusable", reason=type(error).__name__)
        return None


def _initials(person: Person, diameter: int) -> Image.Image:
    colour = _COLOURS[zlib.crc32(person.user_id.encode()) % len(_COLOURS)]
    image = Image.new("RGB", (diameter, diameter), colour)
    letters = "".join(word[0] for word in person.name.split()[:2]).upper()
    ImageDraw.Draw(image).text(
        (diameter / 2, diameter / 2),
        letters,
        fill=(255, 255, 255),
        font=semibold(max(8, diameter * 2 // 5)),
        anchor="mm",
    )
    return image
