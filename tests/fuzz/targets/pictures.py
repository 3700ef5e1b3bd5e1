"""What is shown of participants: pictures (Pillow), video (FFmpeg), names and emoji (text)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from fractions import Fraction

import av
import numpy as np
from PIL import Image

from callclient.receive.decoders import DECODERS as NAMES
from callclient.receive.tracks import Codec
from jobs.recorder.decoding.faces import face
from jobs.recorder.decoding.frames import Decoders
from jobs.recorder.decoding.limits import FACE_PX, frame_fits
from jobs.recorder.decoding.wire import DECODERS
from jobs.recorder.drawing import text
from jobs.recorder.drawing.avatar import initials
from jobs.recorder.drawing.text import Style
from tests.fuzz.target import Target, joined, pieces

_ROOM_PX = 120
_LINES = 2
_canvas = Image.new("RGB", (_ROOM_PX, 40))


def _picture(data: bytes) -> None:
    try:
        pixels = face(data)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # documented: whatever Pillow meets in a broken one
        return
    assert 3 <= len(pixels) <= 3 * FACE_PX * FACE_PX


def _video(data: bytes) -> None:
    """One track, whose codec changes as the first byte of a frame says."""
    decoders = Decoders()
    for frame in pieces(data, 8):
        if not frame:
            continue
        codec = DECODERS.index(NAMES[Codec.AV1 if frame[0] & 1 else Codec.VP8])
        outcome = decoders.decode(7, [(codec, frame[1:])])
        assert outcome.taken == 1
        picture = outcome.picture
        if picture is not None:
            assert frame_fits(picture.width, picture.height)
            assert picture.format.name == "yuv420p"


def _name(data: bytes) -> None:
    name = data.decode("utf-8", "surrogatepass" if data[:1] == b"s" else "replace")[:300]
    style = Style(12)
    fitted = text.fit(name, style, _ROOM_PX)
    assert text.width(fitted, style) <= max(_ROOM_PX, text.width(text.ELLIPSIS, style)) + 1
    lines = text.wrap(name, style, _ROOM_PX, lines=_LINES)
    assert len(lines) <= _LINES
    text.draw(_canvas, (0, 20), fitted, style, (255, 255, 255))
    assert len(initials(name)) <= 200
    # They know what they have been shown, and are bounded; here each input is another name.
    for cached in (text._clusters, text._runs, text._run_width, text.emoji_image):
        cached.cache_clear()


_MODES: dict[bytes, Callable[[bytes], None]] = {b"p": _picture, b"v": _video, b"n": _name}


def _run(data: bytes) -> None:
    mode = _MODES.get(data[:1])
    if mode is None:
        return
    try:
        mode(data[1:])
    except UnicodeDecodeError:
        return


def _frames() -> list[bytes]:
    """VP8. Of AV1 there are some in the kept corpus: its encoder talks too much."""
    encoder = av.CodecContext.create("libvpx", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 64, 64, "yuv420p"
    encoder.time_base = Fraction(1, 30)
    encoder.options = {"deadline": "realtime"}
    coded = []
    for number in range(3):
        picture = np.full((64, 64, 3), 60 * number, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        coded += [bytes(packet) for packet in encoder.encode(frame)]
    return coded + [bytes(packet) for packet in encoder.encode(None)]


def _seeds() -> Iterable[bytes]:
    photo = Image.new("RGB", (8, 6), (200, 30, 40))
    for form in ("PNG", "JPEG", "GIF", "WEBP"):
        out = io.BytesIO()
        photo.save(out, form)
        yield b"p" + out.getvalue()
    out = io.BytesIO()
    photo.convert("P").save(out, "PNG", transparency=0)
    yield b"p" + out.getvalue()
    yield b"v" + joined(b"\0" + frame for frame in _frames())
    for name in (
        "Ada Lovelace",
        "Zoë\u0301\u0301 Ω 𝒜 Ⓐ",
        "משה (Moshe) ١٢",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea ☎\ufe0f \U0001f44d\U0001f3fd",
        "नमस्ते ไทย 漢字",
        "a\u202eb\u2066c\u0000d\ufdfa",
    ):
        yield b"n" + name.encode()


TARGET = Target(
    parses="profile pictures (PNG, JPEG, GIF, WebP), VP8 and AV1 frames, names and emoji that are drawn",
    run=_run,
    seeds=_seeds,
    tokens=(
        *(
            b"\x89PNG\r\n\x1a\n",
            b"IHDR",
            b"IDAT",
            b"PLTE",
            b"tRNS",
            b"\xff\xd8\xff\xe0",
            b"\xff\xc0",
            b"\xff\xda",
        ),
        *(
            b"GIF89a",
            b"RIFF",
            b"WEBPVP8 ",
            b"WEBPVP8L",
            b"WEBPVP8X",
            b"\x9d\x01\x2a",
            b"\x12\x00\x0a",
        ),
        *(
            c.encode()
            for c in (
                "\u200d",
                "\ufe0f",
                "\u202e",
                "\u0301",
                "\U0001f468",
                "\U0001f3fd",
                "\U0001f1e9",
            )
        ),
    ),
    max_bytes=4096,
    ci_inputs=150,
    max_s=3.0,  # as long as the recorder waits for an answer
    max_mib=512.0,  # of 16 million pixels, in a process that may have 1 GiB
)
