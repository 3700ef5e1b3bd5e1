"""Who is speaking, from the audio levels that publishers put into their packets (rtcd.md 3.10). Pure."""

from __future__ import annotations

import math

WINDOW_PACKETS = 50
"""1 s of 20 ms packets; nothing is decided before the window is full."""
ACTIVATE_ABOVE = 10
DEACTIVATE_BELOW = 4
HOLD_NS = 2_000_000_000


class VoiceActivity:
    """Turns levels (0 loud … 127 silent, RFC 6464) into on and off."""

    __slots__ = ("_active_since_ns", "_levels", "_next", "_squares", "_sum", "active")

    def __init__(self) -> None:
        self._levels: list[int] = []
        self._next = 0
        self._sum = self._squares = 0
        self._active_since_ns = 0
        self.active = False

    def push(self, level: int, now_ns: int) -> bool | None:
        """One packet's level; True or False when the activity changes, else None."""
        level &= 0x7F
        levels, slot = self._levels, self._next
        if len(levels) < WINDOW_PACKETS:
            levels.append(level)
        else:
            oldest = levels[slot]
            levels[slot] = level
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._next = (slot + 1) % WINDOW_PACKETS
        self._sum += level
        self._squares += level * level
        if len(levels) < WINDOW_PACKETS:
            return None
        return self._decide(now_ns)

    def reset(self) -> None:
        """Forget everything, as a mute does."""
        self._levels.clear()
        self._next = self._sum = self._squares = 0
        self.active = False

    def _decide(self, now_ns: int) -> bool | None:
        # Squares about the rounded mean, as the original takes them, from the two running sums.
        mean = round(self._sum / WINDOW_PACKETS)
        squares = self._squares - 2 * mean * self._sum + WINDOW_PACKETS * mean * mean
        deviation = round(math.sqrt(squares / (WINDOW_PACKETS - 1)))
        if not self.active:
            if deviation > ACTIVATE_ABOVE:
                self.active, self._active_since_ns = True, now_ns
                return True
        elif deviation < DEACTIVATE_BELOW and now_ns - self._active_since_ns >= HOLD_NS:
            self.active = False
            return False
        return None
