"""Hears who speaks when the server does not tell (trap 30): by level, with a hangover."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from jobs.recorder.voice import RATE_HZ, PlacedBlock

_ON_DBFS: Final = -45.0
_OFF_DBFS: Final = -50.0
_ON_SAMPLES: Final = RATE_HZ * 60 // 1000
"""Loud for this long before the ring glows: a click is no word."""
_OFF_SAMPLES: Final = RATE_HZ * 500 // 1000
"""Quiet for this long before it goes out: words have gaps."""


class SpeechEar:
    """One voice track."""

    def __init__(self) -> None:
        self.speaking = False
        self.end = 0
        """Sample of the recording after the last block."""
        self._loud = 0
        self._quiet = 0

    def push(self, block: PlacedBlock) -> bool:
        """Hear a block; has `speaking` changed with it?"""
        self.end = block.position + len(block.samples)
        power = float(np.dot(block.samples, block.samples)) / max(1, len(block.samples))
        level = _dbfs(math.sqrt(power))
        if level > _ON_DBFS:
            self._loud += len(block.samples)
            self._quiet = 0
        elif level < _OFF_DBFS:
            self._quiet += len(block.samples)
            self._loud = 0
        return self._change(
            self._loud >= _ON_SAMPLES or (self.speaking and self._quiet < _OFF_SAMPLES)
        )

    def silence_until(self, position: int) -> bool:
        """Nothing came up to that sample (muted tracks send no packets); has `speaking` changed with it?"""
        return self._change(self.speaking and position - self.end < _OFF_SAMPLES)

    def _change(self, speaking: bool) -> bool:
        changed, self.speaking = speaking != self.speaking, speaking
        if changed and not speaking:
            self._loud = self._quiet = 0
        return changed


def _dbfs(level: float) -> float:
    return 20 * math.log10(max(level, 1e-6))
