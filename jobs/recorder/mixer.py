"""Adds all tracks up at their places on the recording's time line. Sample-exact; no clock of its own."""

from __future__ import annotations

from typing import Final

import numpy as np

from jobs.recorder.voice import PlacedBlock, Samples

_KNEE: Final = 0.8
"""Below it nothing is changed; above it peaks are bent towards ±1 instead of being cut off."""


class Mixer:
    """A window of the mix that moves on with `take`; a ring, so that moving copies nothing."""

    def __init__(self, *, window: int) -> None:
        """`window`: how far ahead of what was taken sound may lie, samples."""
        self._ring = np.zeros(window, np.float32)
        self.position = 0
        """The sample of the recording that `take` returns next."""
        self.samples_late = 0
        """Came after their place was taken, and are not in the mix."""
        self.samples_far = 0
        """Lay farther ahead than the window, and are not in the mix."""

    def add(self, block: PlacedBlock) -> None:
        """Put a block in; what lies before the start of the recording is cut off."""
        start, samples = block.position, block.samples
        before = max(0, min(self.position - start, len(samples)))
        if self.position:
            self.samples_late += before
        samples, start = samples[before:], start + before
        room = max(0, self.position + len(self._ring) - start)
        self.samples_far += max(0, len(samples) - room)
        samples = samples[:room]
        for part, place in self._places(start, len(samples)):
            self._ring[place] += samples[part]

    def take(self, count: int) -> Samples:
        """The next `count` samples of the mix, at most a window; silence where nobody spoke."""
        out: Samples = np.empty(count, np.float32)
        for part, place in self._places(self.position, count):
            out[part] = self._ring[place]
            self._ring[place] = 0
        self.position += count
        return soft_limited(out)

    def _places(self, start: int, count: int) -> list[tuple[slice, slice]]:
        """Where samples from `start` on are: pairs of a slice of the samples and one of the ring."""
        first = start % len(self._ring)
        until_end = min(count, len(self._ring) - first)
        places = [(slice(0, until_end), slice(first, first + until_end))]
        if until_end < count:
            places.append((slice(until_end, count), slice(0, count - until_end)))
        return places


def soft_limited(samples: Samples) -> Samples:
    """Peaks above the knee bent towards ±1; quieter samples as they are."""
    magnitude = np.abs(samples)
    if len(samples) == 0 or magnitude.max() <= _KNEE:
        return samples
    room = 1 - _KNEE
    bent = np.sign(samples) * (_KNEE + room * np.tanh((magnitude - _KNEE) / room))
    return np.where(magnitude > _KNEE, bent, samples).astype(np.float32)
