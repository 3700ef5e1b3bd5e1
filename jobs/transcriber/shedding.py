"""How much captioning a loaded machine still does: levels with hysteresis. Pure.

Level 0: everything. 1: the final text waits, and a speaker who goes on gets a hypothesis every 2 s at
most. 2: every 3 s, and only the two who began last. 3: only whole utterances, those of a speaker that wait
are decoded together. After that audio is dropped, the oldest first. The level rises at once when the
oldest waiting utterance has waited too long, and falls one step after five calm seconds.
"""

from __future__ import annotations

from typing import Final

_LIMITS_S: Final = (1.0, 2.0, 6.0)
_CALM_S: Final = 5.0


class LoadShedder:
    """Call `observe` whenever work is chosen."""

    def __init__(self) -> None:
        self.level = 0
        self._calm_since_s: float | None = None

    def observe(self, oldest_wait_s: float, *, now_s: float) -> int:
        """`oldest_wait_s`: how long the oldest finished utterance waits for a worker, 0 if none does."""
        wanted = sum(oldest_wait_s > limit for limit in _LIMITS_S)
        if wanted > self.level:
            self.level = wanted
        if self.level == 0:
            return 0
        if oldest_wait_s >= _LIMITS_S[self.level - 1] / 2:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        elif now_s - self._calm_since_s >= _CALM_S:
            self.level -= 1
            self._calm_since_s = now_s
        return self.level
