"""Adds all tracks up at their places on the recording's time line. Sample-exact; no clock of its own."""

from __future__ import annotations

from typing import Final

import numpy as np

from jobs.recorder.voice import PlacedBlock, Samples

_KNEE: Final = 0.8
"""Below it nothing is changed; above it peaks are bent towards ±1 instead of being cut off."""


class Mixer:
    """A window of the mix that moves on with `take`."""

    def __init__(self, *, window: int) -> None:
        """`window`: how far ahead of what was taken sound may lie, samples."""
        self._sum = np.zeros(window, np.float32)
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
        samples, start = samples[before:], start + before - self.position
        room = max(0, len(self._sum) - start)
        self.samples_far += max(0, len(samples) - room)
        samples = samples[:room]
        self._sum[start : start + len(samples)] += samples

    def take(self, count: int) -> Samples:
        """The next `count` samples of the mix; silence where nobody spoke."""
        out: Samples = np.zeros(count, np.float32)
        here = min(count, len(self._sum))
        out[:here] = self._sum[:here]
        self._sum[: len(self._sum) - here] = self._sum[here:].copy()
        self._sum[len(self._sum) - here :] = 0
        self.position += count
        return soft_limited(out)


def soft_limited(samples: Samples) -> Samples:
    """Peaks above the knee bent towards ±1; quieter samples as they are."""
    magnitude = np.abs(samples)
    if len(samples) == 0 or magnitude.max() <= _KNEE:
        return samples
    room = 1 - _KNEE
    bent = np.sign(samples) * (_KNEE + room * np.tanh((magnitude - _KNEE) / room))
    return np.where(magnitude > _KNEE, bent, samples).astype(np.float32)
