"""What a recording must let hear, by the tapes of the pages, block by block of 50 ms.

Loud where somebody was certainly heard, silent where certainly nobody was; what lies between (the first
moments after an unmute was asked for, the tail of what was on its way) is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.media import ANALYSIS_HZ, Samples, Sound
from testbed.browser_call.actor import Actor, Sending

BLOCK_S: Final = 0.05
_LOUD: Final = 0.02
"""RMS of speech; breath and ends of words lie below."""
_HEARD_SHARE: Final = 0.3
"""Of that RMS: a recorder may level voices, but not away."""
_PLACE_BLOCKS: Final = 2
"""A sound may be found so far from its place, 100 ms."""
_SILENT: Final = 0.003
_SILENT_BLOCKS: Final = 6
"""On both sides, 300 ms: nobody is to be heard for so long."""
_STRAY: Final = 0.006
_FROM_S: Final = 0.15
"""After an unmute was done."""
_UNTIL_S: Final = 0.05
"""Before a mute was asked for."""
_TAIL_S: Final = 0.3
_SCREEN_FROM_S: Final = 2.0
"""A screen's sound comes when its offer was answered."""
_TONE_WINDOW_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Heard:
    """How much was judged, and where the recording differs, s."""

    loud_s: float
    missing_s: tuple[float, ...]
    silent_s: float
    stray_s: tuple[float, ...]


def compare(recording: Sound, actors: Sequence[Actor], *, zero_ns: int, length_s: float) -> Heard:
    """Hold a recording against everything that was sent."""
    certain = _Mix(length_s, zero_ns)
    possible = _Mix(length_s, zero_ns)
    for actor in actors:
        for page in actor.pages:
            for name, tape in page.tapes.items():
                sound = tape.sound(zero_ns)
                for begun_ns, ending_ns, asked_ns, ended_ns in _stretches(actor, name):
                    certain.add(sound, begun_ns, ending_ns)
                    possible.add(sound, asked_ns, ended_ns)
    wanted, allowed = _rms(certain.samples), _peak(possible.samples)
    found = _rms(_padded(recording, len(certain.samples)))
    count = min(len(wanted), len(found))
    loud = np.flatnonzero(wanted[:count] > _LOUD)
    near = _spread(found[:count], _PLACE_BLOCKS)
    missing = [b for b in loud if near[b] < _HEARD_SHARE * wanted[b]]
    silent = np.flatnonzero(_spread(allowed[:count], _SILENT_BLOCKS) < _SILENT)
    stray = [b for b in silent if found[b] > _STRAY]
    return Heard(
        len(loud) * BLOCK_S,
        tuple(round(float(b * BLOCK_S), 2) for b in missing),
        len(silent) * BLOCK_S,
        tuple(round(float(b * BLOCK_S), 2) for b in stray),
    )


def tone(sound: Sound, hz: float, start_s: float, end_s: float) -> tuple[float, float]:
    """The lowest and the highest amplitude of a frequency in windows of 50 ms."""
    samples = sound.between(start_s, end_s).samples
    size = round(_TONE_WINDOW_S * sound.rate_hz)
    wave = np.exp(-2j * np.pi * hz * np.arange(size) / sound.rate_hz) * np.hanning(size)
    levels = [
        4 * abs(np.dot(samples[at : at + size], wave)) / size
        for at in range(0, len(samples) - size + 1, size // 2)
    ]
    return (float(min(levels)), float(max(levels))) if levels else (0.0, 0.0)


def storm(
    actor: Actor, hz: float, *, others: Sequence[Actor], zero_ns: int
) -> list[tuple[float, float, bool]]:
    """(start, end, on) of stretches in which a hummed tone was, or was not, sent; recording time.

    Those in which one of the others has that frequency in her voice are left out.
    """
    tapes = _voices([actor], zero_ns)
    stretches = []
    before: Sending | None = None
    for sending in actor.sendings:
        start_s = (sending.begun_ns - zero_ns) / 1e9 + _FROM_S
        end_s = (sending.ending_ns - zero_ns) / 1e9 - _UNTIL_S
        # The last one before a mute, where the voice may have been silent long before.
        start_s = max(start_s, end_s - 0.3)
        if any(tone(tape, hz, start_s, end_s)[0] > _LOUD for tape in tapes):
            if before is not None:
                gap = (
                    (before.ended_ns - zero_ns) / 1e9 + _FROM_S,
                    (sending.asked_ns - zero_ns) / 1e9,
                )
                stretches.append((*gap, False))
            stretches.append((start_s, end_s, True))
            before = sending
    beside = _voices(others, zero_ns)
    return [
        (start_s, end_s, on)
        for start_s, end_s, on in stretches
        if all(tone(tape, hz, start_s, end_s)[1] < _SILENT for tape in beside)
    ]


def _voices(actors: Sequence[Actor], zero_ns: int) -> list[Sound]:
    return [
        page.tapes["voice"].sound(zero_ns)
        for actor in actors
        for page in actor.pages
        if "voice" in page.tapes
    ]


def _stretches(actor: Actor, tape: str) -> list[tuple[int, int, int, int]]:
    """(certain from, certain until, possible from, possible until), ns."""
    tail_ns = round(_TAIL_S * 1e9)
    if tape == "voice":
        after_ns, before_ns = round(_FROM_S * 1e9), round(_UNTIL_S * 1e9)
        return [
            (s.begun_ns + after_ns, s.ending_ns - before_ns, s.asked_ns, s.ended_ns + tail_ns)
            for s in actor.sendings
        ]
    number = int(tape.rpartition("-")[2])
    after_ns = round(_SCREEN_FROM_S * 1e9)
    return [
        (s.asked_ns + after_ns, s.ended_ns - tail_ns, s.asked_ns, s.ended_ns + tail_ns)
        for s in actor.shares
        if s.number == number
    ]


class _Mix:
    def __init__(self, length_s: float, zero_ns: int) -> None:
        self.samples: Samples = np.zeros(round(length_s * ANALYSIS_HZ), np.float32)
        self._zero_ns = zero_ns

    def add(self, sound: Sound, start_ns: int, end_ns: int) -> None:
        part = sound.between((start_ns - self._zero_ns) / 1e9, (end_ns - self._zero_ns) / 1e9)
        start = round(part.start_s * ANALYSIS_HZ)
        samples = part.samples[max(-start, 0) :]
        target = self.samples[max(start, 0) : max(start, 0) + len(samples)]
        target += samples[: len(target)]


def _padded(sound: Sound, count: int) -> Samples:
    total: Samples = np.zeros(count, np.float32)
    part = sound.between(0.0, count / sound.rate_hz)
    start = max(round(part.start_s * sound.rate_hz), 0)
    total[start : start + len(part.samples)] = part.samples[: count - start]
    return total


def _blocks(samples: Samples) -> NDArray[np.float32]:
    size = round(BLOCK_S * ANALYSIS_HZ)
    return samples[: len(samples) // size * size].reshape(-1, size)


def _rms(samples: Samples) -> NDArray[np.float64]:
    rms: NDArray[np.float64] = np.sqrt((_blocks(samples).astype(np.float64) ** 2).mean(axis=1))
    return rms


def _peak(samples: Samples) -> NDArray[np.float64]:
    peak: NDArray[np.float64] = np.abs(_blocks(samples)).max(axis=1).astype(np.float64)
    return peak


def _spread(values: NDArray[np.float64], blocks: int) -> NDArray[np.float64]:
    """The highest of each value's neighbourhood."""
    padded = np.pad(values, blocks)
    shifted = [padded[i : i + len(values)] for i in range(2 * blocks + 1)]
    highest: NDArray[np.float64] = np.max(shifted, axis=0)
    return highest
