"""Where each sentence is in the recording's sound, by correlation with the clip that was sent.

Both are whitened first (only phases count), so that the peak is sharp, and two voices at once do not hide
each other: each clip correlates with itself only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.analysis.media import Samples, Sound

_SEARCH_S: Final = 1.5
"""Looked for this far to both sides: far enough to tell late by a second from missing."""
_MIN_SHARPNESS: Final = 25.0
"""Peak over the standard deviation of the correlation: the right clip has 80 and more, another sentence of
the same voice up to 18."""
_BAND_HZ: Final = (150.0, 4000.0)
"""Where speech is; a codec at 24 kbit/s keeps phases there."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One sentence in the recording."""

    bot: str
    clip: str
    true_s: float
    """When its first sample was sent, in recording time."""
    found_s: float | None
    """Where the recording has it; None: nowhere near."""
    sharpness: float

    @property
    def error_s(self) -> float | None:
        """Positive: late."""
        return None if self.found_s is None else self.found_s - self.true_s


def place(sound: Sound, *, bot: str, clip: str, clip_samples: Samples, true_s: float) -> Placement:
    """Look for `clip_samples` (at the sound's rate) around `true_s`."""
    length_s = len(clip_samples) / sound.rate_hz
    part = sound.between(true_s - _SEARCH_S, true_s + length_s + _SEARCH_S)
    if len(part.samples) < len(clip_samples) // 2:
        return Placement(bot, clip, true_s, None, 0.0)
    lags, correlation = _whitened_correlation(part.samples, clip_samples, sound.rate_hz)
    times_s = part.start_s + lags / sound.rate_hz
    near = np.abs(times_s - true_s) <= _SEARCH_S
    peak = int(np.argmax(np.where(near, correlation, -np.inf)))
    sharpness = float(correlation[peak] / correlation.std())
    found_s = float(times_s[peak]) if sharpness >= _MIN_SHARPNESS else None
    return Placement(bot, clip, true_s, found_s, sharpness)


def drift_s(placements: Sequence[Placement]) -> Mapping[str, float]:
    """Per bot: how far apart its earliest and latest errors are; bots with fewer than two are left out."""
    drifts: dict[str, float] = {}
    for bot in sorted({placement.bot for placement in placements}):
        errors = [
            placement.error_s
            for placement in placements
            if placement.bot == bot and placement.error_s is not None
        ]
        if len(errors) > 1:
            drifts[bot] = max(errors) - min(errors)
    return drifts


def _whitened_correlation(
    sound: Samples, clip: Samples, rate_hz: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Lags of the clip's start in the sound, in samples, and the correlation at each."""
    size = 1 << (len(sound) + len(clip) - 1).bit_length()
    cross = np.fft.rfft(sound, size) * np.conj(np.fft.rfft(clip, size))
    frequencies_hz = np.fft.rfftfreq(size, 1 / rate_hz)
    band = (frequencies_hz >= _BAND_HZ[0]) & (frequencies_hz <= _BAND_HZ[1])
    magnitude = np.abs(cross)
    # The square root keeps some weight on what is loud: plain whitening raises the noise too.
    weight = np.where(band & (magnitude > 0), 1 / np.sqrt(np.maximum(magnitude, 1e-12)), 0)
    correlation = np.fft.irfft(cross * weight, size)
    lags = np.arange(size)
    lags[lags >= size // 2] -= size
    order = np.argsort(lags)
    return lags[order], correlation[order]
