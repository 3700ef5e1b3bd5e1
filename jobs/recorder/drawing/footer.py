"""The line at the bottom (calls-plugin.md 7.1): time, number of participants, who is talking."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from PIL import Image

from jobs.recorder.drawing import text
from jobs.recorder.drawing.avatar import avatar
from jobs.recorder.drawing.colours import BLACK, RING_ON_BLACK, WHITE
from jobs.recorder.drawing.shapes import disc, fill
from jobs.recorder.drawing.text import Style
from jobs.recorder.layout import Box
from jobs.recorder.scene import Person

_FONT_PX: Final = 14
_PADDING_PX: Final = 6
_GAP_PX: Final = 4
_AVATAR_PX: Final = 20
_RING_PX: Final = 3
_IS_TALKING: Final = "is talking…"


@dataclass(frozen=True, slots=True)
class FooterLook:
    """Everything that it depends on."""

    minute: datetime
    """UTC."""
    participants: int
    talking: Person | None
    """Only while a screen is shared."""


def draw_footer(look: FooterLook, box: Box, unit: float) -> Image.Image:
    """RGB image of the box's size."""
    image = Image.new("RGB", (box.width, box.height), BLACK)
    style, gap, padding = (
        Style(round(_FONT_PX * unit)),
        round(_GAP_PX * unit),
        round(_PADDING_PX * unit),
    )
    people = "participant" if look.participants == 1 else "participants"
    left, middle = float(padding), box.height / 2
    for words in (f"{look.minute:%Y-%m-%d %H:%M} UTC", f"• {look.participants} {people}"):
        left += text.draw(image, (left, middle), words, style, WHITE) + gap
    if look.talking is not None:
        _draw_talking(image, look.talking, unit, left + 4 * gap)
    return image


def _draw_talking(image: Image.Image, person: Person, unit: float, left_edge: float) -> None:
    """At the right: picture, name, "is talking…"."""
    bold, plain = Style(round(_FONT_PX * unit)), Style(round(_FONT_PX * unit), bold=False)
    gap, face, ring = (round(px * unit) for px in (_GAP_PX, _AVATAR_PX, _RING_PX))
    middle = image.height / 2
    right = float(image.width - round(_PADDING_PX * unit))
    right -= text.draw(image, (right, middle), _IS_TALKING, plain, WHITE, align="right") + gap
    room = right - left_edge - face - 2 * ring - gap
    name = text.fit(person.name, bold, min(room, image.width / 3))
    right -= text.draw(image, (right, middle), name, bold, WHITE, align="right") + gap
    left, top = round(right) - ring - face, (image.height - face) // 2
    fill(image, disc(face + 2 * ring), left - ring, top - ring, RING_ON_BLACK)
    image.paste(avatar(person, face, RING_ON_BLACK), (left, top), disc(face))
