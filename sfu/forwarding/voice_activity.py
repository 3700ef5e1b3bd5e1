"""Who is speaking, from the audio levels that publishers put into their packets (rtcd.md 3.10). Pure."""

from __future__ import annotations

import math
from collections import deque

WINDOW_PACKETS = 50
"""1 s of 20 ms packets; nothing is decided before the window is full."""
ACTIVATE_ABOVE = 10
DEACTIVATE_BELOW = 4
HOLD_NS = 2_000_000_000


class VoiceActivity:
    """Turns levels (0 loud … 127 silent, RFC 6464) into on and off."""

    def __init__(self) -> None:
        self._levels: deque[int] = deque(maxlen=WINDOW_PACKETS)
        self._active_since_ns = 0
        self.active = False

    def push(self, level: int, now_ns: int) -> bool | None:
        """One packet's level; True or False when the activity changes, else None."""
        self._levels.append(level & 0x7F)
        if len(self._levels) < WINDOW_PACKETS:
            return None
        mean = round(sum(self._levels) / WINDOW_PACKETS)
        variance = sum((value - mean) ** 2 for value in self._levels) / (WINDOW_PACKETS - 1)
        deviation = round(math.sqrt(variance))
        if not self.active and deviation > ACTIVATE_ABOVE:
            self.active, self._active_since_ns = True, now_ns
            return True
        if (
            self.active
            and deviation < DEACTIVATE_BELOW
            and now_ns - self._active_since_ns >= HOLD_NS
        ):
            self.active = False
            return False
        return None

    def reset(self) -> None:
        """Forget everything, as a mute does."""
        self._levels.clear()
        self.active = False
