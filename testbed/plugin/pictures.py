"""Profile pictures: a coloured square with initials."""

from __future__ import annotations

import io
import zlib
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from testbed.plugin.world import User

_SIZE_PX = 128
_COLOURS = ("#3B6FB6", "#B6543B", "#3B9E6B", "#8A56B5", "#B5904A")


def initials_png(user: User) -> bytes:
    """A PNG of 128×128 px, always the same for a user."""
    first, last = user.first_name or user.username, user.last_name
    return _draw((first[:1] + last[:1]).upper(), zlib.crc32(user.username.encode()))


@lru_cache(maxsize=64)
def _draw(initials: str, seed: int) -> bytes:
    image = Image.new("RGB", (_SIZE_PX, _SIZE_PX), _COLOURS[seed % len(_COLOURS)])
    font = ImageFont.load_default(_SIZE_PX // 2)
    middle = (_SIZE_PX / 2, _SIZE_PX / 2)
    ImageDraw.Draw(image).text(middle, initials, "white", font, anchor="mm")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
