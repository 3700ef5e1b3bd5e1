"""Brings quiet and loud speakers nearer to each other, gently: nobody hears it work. Pure."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from jobs.recorder.voice import RATE_HZ, Samples

_TARGET_DBFS: Final = -21.0
"""How loud speech is in most calls (RMS while somebody speaks)."""
_GATE_DBFS: Final = -45.0
"""Quieter is no speech: pauses and rooms are not raised on their own account."""
_SHARE: Final = 0.5
"""Of the way to the target: who speaks up is still heard to."""
_MOST_DB: Final = 8.0
_MEMORY: Final = 3 * RATE_HZ
"""Of speech, over which loudness is measured."""
_STEP_DB_PER_S: Final = 3.0
"""Of speech; slower than voices swell and fall by themselves."""


class Leveller:
    """One speaker's gain. Quiet sound keeps the gain that speech has set."""

    def __init__(self) -> None:
        self._power = 0.0
        self._heard = 0
        self.gain_db = 0.0
        """As of the last block."""

    def apply(self, samples: Samples) -> Samples:
        """The block, with a gain that changes smoothly within it."""
        before_db = self.gain_db
        power = float(np.dot(samples, samples)) / max(1, len(samples))
        if power > 10 ** (_GATE_DBFS / 10):
            self._hear(power, len(samples))
        if before_db == self.gain_db == 0.0:
            return samples
        ramp = np.linspace(_factor(before_db), _factor(self.gain_db), len(samples))
        return (samples * ramp).astype(np.float32)

    def _hear(self, power: float, count: int) -> None:
        self._heard = min(self._heard + count, _MEMORY)
        self._power += (power - self._power) * min(1.0, count / self._heard)
        wanted_db = (_TARGET_DBFS - 10 * math.log10(self._power)) * _SHARE
        wanted_db = min(max(wanted_db, -_MOST_DB), _MOST_DB)
        step_db = _STEP_DB_PER_S * count / RATE_HZ
        self.gain_db += min(max(wanted_db - self.gain_db, -step_db), step_db)


def _factor(gain_db: float) -> float:
    return float(10 ** (gain_db / 20))
