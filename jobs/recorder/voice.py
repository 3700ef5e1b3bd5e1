"""One audio track: Opus packets to samples at their place on the recording's time line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from callclient.receive.opus_decoder import OpusDecoder, OpusError
from callclient.receive.tracks import EncodedFrame
from rtc.opus import packet_samples

RATE_HZ: Final = 48_000
Samples = NDArray[np.float32]
"""Mono, ±1, 48 kHz."""

_SEAM: Final = 960
"""A packet no later than this after the end of the last one (samples, 20 ms) follows it without a seam:
packet times are known to a few milliseconds only, and a shifted sample clicks."""
_QUIET_SEAM: Final = 240
"""In silence nobody hears a shift: there the placement is corrected from 5 ms on."""
_QUIET: Final = 0.003
"""Largest sample of what counts as silence, −50 dBFS."""
_BEHIND: Final = 9600
"""Sound that comes this much too late behind what its track has played already is cut: 200 ms."""
_DRIFT_SHARE: Final = 1 / 32
"""What one packet counts in the mean deviation: two thirds of a second are looked at."""
_DRIFT_FROM: Final = 96
"""A mean deviation of 2 ms is worked off in speech too, packet by packet …"""
_DRIFT_TO: Final = 24
"""… until half a millisecond is left."""
_STRETCH: Final = 200
"""By a two-hundredth of a packet: less than a tenth of a semitone, and fifty times what clocks drift."""
_FADE: Final = 240
"""Sound that begins or ends in the middle of a wave does so within 5 ms."""
_TAIL: Final = 480
"""What is made up after a track's last packet, to fade it out: 10 ms."""


def to_samples(duration_ns: int) -> int:
    return round(duration_ns * RATE_HZ / 1_000_000_000)


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """Decoded sound at its place."""

    position: int
    """Sample of the recording; negative before its start."""
    samples: Samples

    @property
    def end(self) -> int:
        return self.position + len(self.samples)


class VoiceTrack:
    """Decodes one track's packets in order and places them. Blocking; owned by one thread."""

    def __init__(self) -> None:
        self.packets_broken = 0
        self._decoder = OpusDecoder()
        self._expected: int | None = None
        self._sounding = False
        """Nobody has faded out what came last."""
        self._deviation = 0.0
        self._working_off = False

    @property
    def end(self) -> int | None:
        """The sample after the last one; None before the first packet."""
        return self._expected

    def push(self, frame: EncodedFrame, *, zero_ns: int) -> PlacedBlock | None:
        """The packet's sound, with what is made up for lost packets before it; None if it holds none.

        A packet that cannot be decoded is made up too.
        """
        length = packet_samples(frame.payload)
        if length == 0:
            return None
        samples = self._decode(frame, length)
        told = to_samples(frame.time_ns - zero_ns) - (len(samples) - length)
        block = self._place(told, samples)
        self._expected, self._sounding = block.end, bool(len(block.samples))
        return block

    def fade_out(self) -> PlacedBlock | None:
        """Nothing follows where the last block ended: how it goes on and vanishes; None if it has already."""
        if not self._sounding or self._expected is None:
            return None
        self._sounding = False
        pcm = np.frombuffer(self._decoder.conceal(_TAIL), np.float32)
        tail = pcm * np.linspace(1, 0, len(pcm), dtype=np.float32)
        return PlacedBlock(self._expected, tail) if np.abs(tail).max() > 0 else None

    def _place(self, told: int, samples: Samples) -> PlacedBlock:
        expected = self._expected
        if expected is None:
            return PlacedBlock(told, _faded_in(samples))
        error = told - expected
        if abs(error) > _QUIET_SEAM and bool(np.abs(samples).max() < _QUIET):
            self._deviation, self._working_off = 0.0, False
            return PlacedBlock(told, samples)
        if error > _SEAM:
            self._deviation, self._working_off = 0.0, False
            return PlacedBlock(told, _faded_in(samples))
        if error < -_BEHIND:
            return PlacedBlock(expected, _faded_in(samples[min(-error, len(samples)) :]))
        return PlacedBlock(expected, self._stretched(samples, error))

    def _stretched(self, samples: Samples, error: int) -> Samples:
        """A little longer or shorter while the track is early or late by its packets' times."""
        self._deviation += (error - self._deviation) * _DRIFT_SHARE
        if abs(self._deviation) > _DRIFT_FROM:
            self._working_off = True
        elif abs(self._deviation) < _DRIFT_TO:
            self._working_off = False
        if not self._working_off:
            return samples
        count = len(samples)
        change = max(1, count // _STRETCH)
        length = count + (change if self._deviation > 0 else -change)
        self._deviation -= length - count
        places = np.linspace(0, count - 1, length)
        return np.interp(places, np.arange(count), samples).astype(np.float32)

    def _decode(self, frame: EncodedFrame, length: int) -> Samples:
        try:
            filled = self._decoder.fill(
                frame.payload, to_samples(frame.lost_ns), repairs=frame.repairs_loss
            )
            pcm = filled + self._decoder.decode(frame.payload)
        except OpusError:
            self.packets_broken += 1
            pcm = self._decoder.conceal(length)
        return np.frombuffer(pcm, np.float32)


def _faded_in(samples: Samples) -> Samples:
    """For what follows nothing: a decoder may begin in the middle of a wave."""
    count = min(_FADE, len(samples))
    if count == 0 or abs(samples[0]) < _QUIET:
        return samples
    faded = samples.copy()
    faded[:count] *= np.linspace(0, 1, count, dtype=np.float32)
    return faded
