"""The picture of a recording of sound alone: calm, the same from the first moment to the last.

Recordings are H.264 and AAC for whoever plays them (calls-plugin.md 9.1), and a browser's video element gives
a file with nothing but sound neither a size nor a place for captions.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from PIL import Image

from jobs.recorder import layout
from jobs.recorder.drawing import text
from jobs.recorder.drawing.colours import BACKGROUND, MUTED, QUIET_TEXT, WHITE
from jobs.recorder.drawing.shapes import disc, fill, microphone
from jobs.recorder.drawing.text import Style
from jobs.recorder.planes import Converter, Planes, blank

if TYPE_CHECKING:
    from jobs.recorder.compositor import View

_TITLE: Final = "Audio recording"
_DISC_PX: Final = 96
_ICON_PX: Final = 48
_TITLE_FONT_PX: Final = 28
_TIME_FONT_PX: Final = 16
_LINE_PX: Final = 44


class StillPicture:
    """In the compositor's place. Owned by one thread."""

    def __init__(self, width: int, height: int) -> None:
        """Both even, px."""
        self._width, self._height = width, height
        self._planes: Planes | None = None

    def compose(self, view: View) -> Planes:
        """The frame; of the view only the first one's minute is shown. Names appear nowhere."""
        if self._planes is None:
            self._planes = Converter().planes(self._paint(view.minute))
        return self._planes

    def blank(self) -> Planes:
        """A frame with nothing in it."""
        return blank(self._width, self._height)

    def _paint(self, minute: datetime) -> Image.Image:
        image = Image.new("RGB", (self._width, self._height), BACKGROUND)
        unit = layout.unit(self._width, self._height)
        round_px, icon_px = layout.even(_DISC_PX * unit), layout.even(_ICON_PX * unit)
        centre, top = self._width // 2, self._height // 2 - round(1.5 * round_px)
        fill(image, disc(round_px), centre - round_px // 2, top, MUTED)
        inset = (round_px - icon_px) // 2
        icon = microphone(icon_px, muted=False)
        fill(image, icon, centre - icon_px // 2, top + inset, WHITE)
        line = round(_LINE_PX * unit)
        at = top + round_px + line
        title = Style(round(_TITLE_FONT_PX * unit))
        text.draw(image, (centre, at), _TITLE, title, WHITE, align="centre")
        time = f"{minute:%Y-%m-%d %H:%M} UTC"
        style = Style(round(_TIME_FONT_PX * unit), bold=False)
        text.draw(image, (centre, at + line), time, style, QUIET_TEXT, align="centre")
        return image
