"""How long to wait before coming back: not at all, then longer and longer (calls-plugin.md 1.5)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

STEP_S: Final = 0.5
LONGEST_S: Final = 1.0
"""The server keeps the session for 10 s: one that is back after 8 s must have been asked again by then."""
STEADY_S: Final = 5.0
"""A connection that lived this long was a good one: the next loss starts anew. A server that takes everybody
in and throws them out again would be asked without a pause otherwise."""


class Backoff:
    """The waits of one connection's life; up to half a step is added by chance, so that jobs spread out."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._attempts = 0

    def lived(self, seconds: float) -> None:
        """A connection is gone that was up so long."""
        if seconds >= STEADY_S:
            self._attempts = 0

    def next_s(self) -> float:
        """The wait before the next attempt."""
        attempts, self._attempts = self._attempts, self._attempts + 1
        if not attempts:
            return 0.0
        return min(STEP_S * attempts, LONGEST_S) + self._chance() * STEP_S / 2
