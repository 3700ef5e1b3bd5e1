"""Sound and pictures with known content, as the receive path delivers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from callclient.receive.tracks import EncodedFrame
from jobs.recorder.drawing import fonts
from jobs.recorder.settings import RecorderSettings

ID = "abcdefghijklmnopqrstuvwxy"
PACKET = 960
PACKET_NS = 20_000_000


@dataclass(frozen=True)
class OpusPacket:
    payload: bytes
    call_ns: int
    duration_ns: int = PACKET_NS


def encode_opus(samples: NDArray[np.float32]) -> list[bytes]:
    """Packets of 20 ms; the encoder's run-in (6.5 ms) makes decoded sound that much late."""
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate = 48_000
    codec.layout = "mono"
    codec.format = "flt"
    codec.bit_rate = 64_000
    codec.time_base = Fraction(1, 48_000)
    codec.open()
    packets = []
    for start in range(0, len(samples) - PACKET + 1, PACKET):
        block = np.ascontiguousarray(samples[None, start : start + PACKET], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate, frame.pts = 48_000, start
        packets += [bytes(packet) for packet in codec.encode(frame)]
    packets += [bytes(packet) for packet in codec.encode(None)]
    return packets


def tone(seconds: float, *, hz: float = 1000, level: float = 0.3) -> NDArray[np.float32]:
    at = np.arange(round(seconds * 48_000)) / 48_000
    return (level * np.sin(2 * np.pi * hz * at)).astype(np.float32)


class Vp8Source:
    """Grey pictures of a given brightness."""

    def __init__(self, width: int = 640, height: int = 360) -> None:
        codec = av.CodecContext.create("libvpx", "w")
        codec.width, codec.height = width, height
        codec.pix_fmt = "yuv420p"
        codec.time_base = Fraction(1, 1000)
        codec.gop_size = 100_000
        codec.thread_count = 1
        codec.options = {"deadline": "realtime", "cpu-used": "12", "lag-in-frames": "0"}
        self._codec = codec
        self._shape = (height * 3 // 2, width)
        self._count = 0

    def frame(self, luma: int, time_ns: int, *, key: bool = False, lost: int = 0) -> EncodedFrame:
        planes = np.full(self._shape, 128, np.uint8)
        planes[: self._shape[0] * 2 // 3] = luma
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        picture.pts = self._count * 40
        picture.time_base = Fraction(1, 1000)
        if key:
            picture.pict_type = av.video.frame.PictureType.I
        self._count += 1
        (packet,) = self._codec.encode(picture)
        return EncodedFrame(
            payload=bytes(packet),
            time_ns=time_ns,
            duration_ns=0,
            keyframe=bool(packet.is_keyframe),
            lost_before=lost,
        )


@pytest.fixture
def settings(tmp_path: Path) -> RecorderSettings:
    return RecorderSettings(
        site_url="http://127.0.0.1:8065",
        call_id=ID + "c",
        post_id=ID + "p",
        job_id=ID + "r",
        auth_token=ID + "s",
        data_dir=tmp_path,
        width_px=1280,
        height_px=720,
        frame_rate=20,
        video_preset="ultrafast",
    )


@pytest.fixture
def opus() -> Callable[..., list[OpusPacket]]:
    """Packets of a tone from a call time on: `opus(seconds, start_s=…, hz=…, level=…)`."""

    def make(seconds: float, *, start_s: float = 0.0, **sound: float) -> list[OpusPacket]:
        payloads = encode_opus(tone(seconds, **sound))
        first_ns = round(start_s * 1e9)
        return [OpusPacket(p, first_ns + n * PACKET_NS) for n, p in enumerate(payloads)]

    return make


@pytest.fixture
def audio_frames(opus: Callable[..., list[OpusPacket]]) -> Callable[..., list[EncodedFrame]]:
    """The same as frames, with `zero_ns` as call time 0."""

    def make(seconds: float, *, zero_ns: int = 0, **sound: float) -> list[EncodedFrame]:
        return [
            EncodedFrame(p.payload, zero_ns + p.call_ns, p.duration_ns, True, 0)
            for p in opus(seconds, **sound)
        ]

    return make


@pytest.fixture
def vp8() -> Callable[..., Vp8Source]:
    return Vp8Source


@pytest.fixture
def av1() -> Callable[..., list[bytes]]:
    """Grey pictures as temporal units, the first a key frame: `av1(width, height, count)`."""

    def make(width: int, height: int, count: int = 2) -> list[bytes]:
        encoder = av.CodecContext.create("libsvtav1", "w")
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        encoder.time_base = Fraction(1, 10)
        encoder.options = {"preset": "13", "svtav1-params": "pred-struct=1:rc=0:lp=1"}
        units = []
        for number in range(count):
            picture = av.VideoFrame(width, height, "yuv420p")
            picture.pts = number
            for plane in picture.planes:
                plane.update(bytes([90]) * plane.buffer_size)
            units += encoder.encode(picture)
        units += encoder.encode(None)
        return [bytes(unit) for unit in units]

    return make


@pytest.fixture
def emoji_font(engine_missing: Callable[[str, str], None]) -> None:
    """Skips where the system has no colour font."""
    if fonts.emoji_file() is None:
        engine_missing("emoji", "apt-get install fonts-noto-color-emoji")


@pytest.fixture
def moved() -> Callable[[EncodedFrame, int], EncodedFrame]:
    """The same frame at another time."""
    return lambda frame, by_ns: replace(frame, time_ns=frame.time_ns + by_ns)


@pytest.fixture
def text_shaping(engine_missing: Callable[[str, str], None]) -> None:
    """Only where scripts are shaped, as in the images."""
    if not fonts.shapes():
        engine_missing("fribidi", "apt-get install libfribidi0")
