"""Opus packets to the samples that speech models want: 16 kHz, mono, float32, ±1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from callclient.receive.opus_decoder import OpusDecoder, OpusError
from jobs.transcriber.capture import CapturedTrack, TrackIdentity, VoicePacket

Samples = NDArray[np.float32]
RATE_HZ: Final = 16_000
_CONVERGENCE_NS: Final = 80_000_000
"""An Opus decoder started in mid-stream needs this much before it sounds right (RFC 7845 section 4.2)."""


def ns_to_samples(duration_ns: int) -> int:
    return round(duration_ns * RATE_HZ / 1_000_000_000)


def samples_to_ns(samples: int) -> int:
    return samples * 1_000_000_000 // RATE_HZ


class VoiceDecoder:
    """Decodes one track's packets in order; what was lost between them is concealed, or repaired from the
    copy that the next packet may hold. Not thread-safe; holds no file.

    Raises:
        OpusUnavailable: no libopus.
    """

    def __init__(self) -> None:
        self.packets_broken = 0
        # libopus makes 16 kHz by itself: cheaper than 48 kHz and a resampler, and without its delay.
        self._decoder = OpusDecoder(RATE_HZ)

    def decode(self, packets: Iterable[VoicePacket]) -> Samples:
        """The packets' sound from the first one's `heard_ns` on; what cannot be decoded is made up too."""
        pcm = b"".join([self._decode(packet) for packet in packets])
        return np.frombuffer(pcm, np.float32)

    def _decode(self, packet: VoicePacket) -> bytes:
        decoder = self._decoder
        try:
            sound = b""
            if packet.concealed_ns:
                missing = ns_to_samples(packet.concealed_ns)
                sound = decoder.fill(packet.payload, missing, repairs=packet.repairs_loss)
            return sound + decoder.decode(packet.payload)
        except OpusError:
            self.packets_broken += 1
            lost = ns_to_samples(packet.concealed_ns + packet.duration_ns)
            return decoder.conceal(lost - lost % decoder.step)


def read_samples(
    track: CapturedTrack | None,
    *,
    start_ns: int,
    end_ns: int,
    unwritten: Iterable[VoicePacket] = (),
) -> Samples:
    """The captured sound between two call times, silence where nothing was said. Blocks.

    `unwritten`: packets that the file may not have yet, in order; without any file `track` is None.

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
        at = ns_to_samples(run[0].heard_ns - start_ns)
        decoded = decoded[max(0, -at) :]
        at = max(0, at)
        room = out[at : at + len(decoded)]
        room[:] = decoded[: len(room)]
        run.clear()

    waiting = list(unwritten)
    from_memory_ns = waiting[0].call_ns if waiting else None
    written = track.packets(start_ns=start_ns - _CONVERGENCE_NS, end_ns=end_ns) if track else ()
    if from_memory_ns is not None:  # what was written meanwhile is in both
        written = (packet for packet in written if packet.end_ns <= from_memory_ns + _CONTIGUOUS_NS)
    for packet in chain(written, waiting):
        if run and abs(packet.heard_ns - run[-1].end_ns) > _CONTIGUOUS_NS:
            place()
        run.append(packet)
    place()
    return out


_CONTIGUOUS_NS: Final = 15_000_000
"""Packets closer than this to each other are decoded as one piece; less than one packet."""


def _blocks(path: Path) -> Iterator[Samples]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise OSError(f"{path}: no audio in it")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
        for frame in container.decode(container.streams.audio[0]):
            for part in resampler.resample(frame):
                yield part.to_ndarray()[0]
        for part in resampler.resample(None):
            yield part.to_ndarray()[0]


def read_audio_file(path: Path) -> Samples:
    """Any audio file that FFmpeg reads, as one block. Blocks.

    Raises:
        OSError, ValueError: no such file, or not audio.
    """
    blocks = list(_blocks(path))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class HeldSound:
    """A voice that is no capture: somebody's audio file, in memory at 2 bytes a sample (115 MB an hour)."""

    identity: TrackIdentity
    pcm: NDArray[np.int16]

    @classmethod
    def read(cls, path: Path, identity: TrackIdentity) -> HeldSound:
        """Any audio file that FFmpeg reads. Blocks. Raises OSError, ValueError."""
        blocks = [
            (np.clip(block, -1, 1) * 32767).round().astype(np.int16) for block in _blocks(path)
        ]
        return cls(identity, np.concatenate(blocks) if blocks else np.zeros(0, np.int16))

    def samples(self, *, start_ns: int, end_ns: int) -> Samples:
        """Between two times in the file."""
        part = self.pcm[max(0, ns_to_samples(start_ns)) : max(0, ns_to_samples(end_ns))]
        return part.astype(np.float32) / np.float32(32767)
