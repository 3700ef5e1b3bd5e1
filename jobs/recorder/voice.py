"""One audio track: Opus packets to samples at their place on the recording's time line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from callclient.receive.tracks import EncodedFrame
from rtc.opus import packet_samples

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

RATE_HZ: Final = 48_000
Samples = NDArray[np.float32]
"""Mono, ±1, 48 kHz."""

_SEAM: Final = 960
"""A packet this near to where the last one ended (samples, 20 ms) follows it without a seam: packet times
are known to a few milliseconds only, and a shifted sample clicks."""
_QUIET_SEAM: Final = 240
"""In silence nobody hears a shift: there the placement is corrected from 5 ms on."""
_QUIET: Final = 0.003
"""Largest sample of what counts as silence, −50 dBFS."""


def to_samples(duration_ns: int) -> int:
    return round(duration_ns * RATE_HZ / 1_000_000_000)


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """Decoded sound at its place."""

    position: int
    """Sample of the recording; negative before its start."""
    samples: Samples


class VoiceTrack:
    """Decodes one track's packets in order and places them. Blocking; owned by one thread."""

    def __init__(self) -> None:
        self.packets_broken = 0
        # libopus gives exactly the packet's samples; FFmpeg's own decoder keeps some back at the start.
        codec: AudioCodecContext = av.CodecContext.create("libopus", "r")
        codec.sample_rate = RATE_HZ
        codec.layout = "mono"
        self._codec = codec
        self._expected: int | None = None

    def push(self, frame: EncodedFrame, *, zero_ns: int) -> PlacedBlock | None:
        """The packet's sound; None if it holds none. A packet that cannot be decoded becomes silence."""
        length = packet_samples(frame.payload)
        if length == 0:
            return None
        samples = self._decode(frame.payload, length)
        position = self._place(to_samples(frame.time_ns - zero_ns), frame.lost_before, samples)
        self._expected = position + len(samples)
        return PlacedBlock(position, samples)

    def _place(self, told: int, lost_before: int, samples: Samples) -> int:
        expected = self._expected
        if expected is None or lost_before:
            return told
        quiet = bool(np.abs(samples).max() < _QUIET)
        allowed = _QUIET_SEAM if quiet else _SEAM
        return expected if abs(told - expected) <= allowed else told

    def _decode(self, payload: bytes, length: int) -> Samples:
        try:
            blocks = [_float(f.to_ndarray()) for f in self._codec.decode(av.Packet(payload))]
        except av.FFmpegError:
            blocks = []
        if not blocks:
            self.packets_broken += 1
            return np.zeros(length, np.float32)
        samples: Samples = np.concatenate(blocks)
        return samples


def _float(values: NDArray[Any]) -> Samples:
    flat = values.reshape(-1)
    if flat.dtype == np.int16:
        return flat.astype(np.float32) / np.float32(32768)
    return flat.astype(np.float32, copy=False)
