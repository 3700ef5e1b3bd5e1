"""A token bucket: sessions may send 10 messages a second, users 1 request a second (sections 2, 5.1)."""

from __future__ import annotations


class RateLimit:
    """Pure: the caller brings the time, seconds on any steady clock."""

    def __init__(self, *, rate_per_s: float, burst: float) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._at_s: float | None = None

    def allow(self, now_s: float) -> bool:
        """Take one token; False when there is none."""
        if self._at_s is not None:
            self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
