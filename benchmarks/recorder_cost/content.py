"""What is shared: slides and a document that is scrolled and typed into, or one slide that stays.

Drawn and encoded once (1920×1080, 15 frames/s, VP8 with libvpx in real-time screen mode, every picture sent,
also one that shows nothing new, but for `repeated`), so that sending costs nothing while others are measured.
The same file is played by the reference's page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.frame import PictureType
from PIL import Image, ImageDraw, ImageFont

from benchmarks.recorder_cost.cases import SCREEN_FRAMES_PER_S

WIDTH_PX: Final = 1920
HEIGHT_PX: Final = 1080
LOOP_S: Final = 20
_BIT_RATE: Final = 2_500_000
_TEXT: Final = "the quick brown fox jumps over the lazy dog while seven wizards quietly box"
_WORDS: Final = tuple(_TEXT.split())
_SCROLL_PX: Final = 12
"""A frame: 180 px a second, as somebody reads on."""


def slides() -> Iterator[Image.Image]:
    """Two slides of 5 s, 4 s of scrolling, 6 s of typing three letters a second."""
    for number in (1, 2):
        slide = _slide(number)
        for _ in range(5 * SCREEN_FRAMES_PER_S):
            yield slide
    document = _document(HEIGHT_PX + 4 * SCREEN_FRAMES_PER_S * _SCROLL_PX)
    for step in range(4 * SCREEN_FRAMES_PER_S):
        top = step * _SCROLL_PX
        yield document.crop((0, top, WIDTH_PX, top + HEIGHT_PX))
    page = document.crop((0, document.height - HEIGHT_PX, WIDTH_PX, document.height))
    draw = ImageDraw.Draw(page)
    for count in range(6 * SCREEN_FRAMES_PER_S):
        if count % 5 == 0:
            place = 200 + count // 5 * 14, HEIGHT_PX // 2
            draw.text(place, "n", fill=(180, 20, 20), font=ImageFont.load_default(size=26))
        yield page


def idle() -> Iterator[Image.Image]:
    """One slide."""
    slide = _slide(1)
    for _ in range(LOOP_S * SCREEN_FRAMES_PER_S):
        yield slide


def repeated() -> Iterator[Image.Image | None]:
    """One slide, sent as browsers do: refined for a second, then once a second."""
    slide = _slide(1)
    for number in range(LOOP_S * SCREEN_FRAMES_PER_S):
        refining = number < SCREEN_FRAMES_PER_S
        yield slide if refining or number % SCREEN_FRAMES_PER_S == 0 else None


CONTENTS: Final[Mapping[str, Callable[[], Iterator[Image.Image | None]]]] = {
    "slides": slides,
    "idle": idle,
    "repeated": repeated,
}
"""None: no picture is sent then."""


def write_content(name: str, path: Path) -> None:
    """Encode `CONTENTS[name]` into a WebM file whose first frame alone is a key frame."""
    with av.open(str(path), "w", format="webm") as container:
        stream = container.add_stream("libvpx", rate=SCREEN_FRAMES_PER_S)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        context.bit_rate, context.gop_size, context.thread_count = _BIT_RATE, 100_000, 2
        context.options = {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "error-resilient": "1",
            "screen-content-mode": "1",
        }
        for number, image in enumerate(CONTENTS[name]()):
            if image is None:
                continue
            frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, SCREEN_FRAMES_PER_S)
            frame.pict_type = PictureType.I if number == 0 else PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_frames(path: Path) -> list[bytes | None]:
    """The VP8 frames of such a file, one for each tick; None: no picture is sent then."""
    frames: list[bytes | None] = [None] * (LOOP_S * SCREEN_FRAMES_PER_S)
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                at_s = float(packet.pts * packet.time_base)
                frames[round(at_s * SCREEN_FRAMES_PER_S)] = bytes(packet)
    return frames


def _slide(number: int) -> Image.Image:
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (250, 250, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, WIDTH_PX, 140), fill=(30, 60, 110))
    draw.text((80, 40), f"Results of quarter {number}", fill="white", font=_font(56))
    for line in range(9):
        words = " ".join(_WORDS[(line * number + n) % len(_WORDS)] for n in range(9))
        draw.text((100, 200 + 64 * line), f"- {words}", fill=(40, 40, 40), font=_font(32))
    for bar in range(12):
        height = 40 + (bar * 37 * number) % 200
        left = 200 + bar * 120
        colour = (60 + bar * 15, 120, 200 - bar * 10)
        draw.rectangle((left, 1040 - height, left + 80, 1040), fill=colour)
    return image


def _document(height_px: int) -> Image.Image:
    image = Image.new("RGB", (WIDTH_PX, height_px), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 160, height_px), fill=(235, 238, 242))
    for line, top in enumerate(range(20, height_px - 40, 40)):
        words = " ".join(_WORDS[(line * 5 + n * 3) % len(_WORDS)] for n in range(14))
        draw.text((200, top), words, fill=(30, 30, 30), font=_font(26))
    return image


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
