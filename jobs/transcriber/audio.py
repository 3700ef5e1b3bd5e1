"""Opus packets to the samples that speech models want: 16 kHz, mono, float32, ±1."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import numpy as np
from numpy.typing import NDArray

from jobs.transcriber.capture import CapturedTrack, VoicePacket

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext

Samples = NDArray[np.float32]
RATE_HZ: Final = 16_000
_CONVERGENCE_NS: Final = 80_000_000
"""An Opus decoder started in mid-stream needs this much before it sounds right (RFC 7845 section 4.2)."""


def ns_to_samples(duration_ns: int) -> int:
    return round(duration_ns * RATE_HZ / 1_000_000_000)


def samples_to_ns(samples: int) -> int:
    return samples * 1_000_000_000 // RATE_HZ


class VoiceDecoder:
    """Decodes one track's packets in order. Not thread-safe; holds no file."""

    def __init__(self) -> None:
        self.packets_broken = 0
        codec: AudioCodecContext = av.CodecContext.create("opus", "r")
        codec.sample_rate = 48_000
        codec.layout = "mono"
        self._codec = codec
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)

    def decode(self, packets: Iterable[VoicePacket]) -> Samples:
        """The packets' sound, one after another; a packet that cannot be decoded becomes silence.

        The resampler holds back about a millisecond, so single calls return a few samples more or less.
        """
        blocks: list[Samples] = []
        for packet in packets:
            try:
                frames = self._codec.decode(av.Packet(packet.payload))
                blocks += [
                    resampled.to_ndarray()[0]
                    for frame in frames
                    for resampled in self._resampler.resample(frame)
                ]
            except av.error.FFmpegError:
                self.packets_broken += 1
                blocks.append(np.zeros(ns_to_samples(packet.duration_ns), np.float32))
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def read_samples(track: CapturedTrack, *, start_ns: int, end_ns: int) -> Samples:
    """The captured sound between two call times, silence where nothing was said. Blocks.

    Raises:
        OSError: the capture cannot be read.
    """
    out = np.zeros(max(0, ns_to_samples(end_ns - start_ns)), np.float32)
    decoder = VoiceDecoder()
    run: list[VoicePacket] = []

    def place() -> None:
        """Decode what is contiguous and put it at its time."""
        if not run:
            return
        decoded = decoder.decode(run)
        at = ns_to_samples(run[0].call_ns - start_ns)
        decoded = decoded[max(0, -at) :]
        at = max(0, at)
        room = out[at : at + len(decoded)]
        room[:] = decoded[: len(room)]
        run.clear()

    for packet in track.packets(start_ns=start_ns - _CONVERGENCE_NS, end_ns=end_ns):
        if run and abs(packet.call_ns - run[-1].end_ns) > _CONTIGUOUS_NS:
            place()
        run.append(packet)
    place()
    return out


_CONTIGUOUS_NS: Final = 15_000_000
"""Packets closer than this to each other are decoded as one piece; less than one packet."""


def read_audio_file(path: Path) -> Samples:
    """Any audio file that FFmpeg reads, as one block. Blocks.

    Raises:
        OSError: no such file, or not audio (PyAV's errors are OSErrors and ValueErrors).
    """
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise OSError(f"{path}: no audio in it")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
        blocks = [
            part.to_ndarray()[0]
            for frame in container.decode(container.streams.audio[0])
            for part in resampler.resample(frame)
        ]
        blocks += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
