"""Limits for clients that send too much: a bug in one browser must not cost the others their call.

Generous: the plugin itself lets a session send 10 messages a second, 100 at once (rtcd.md 4.5).
"""

from __future__ import annotations

from typing import Final

from foundation.clock import Clock

BURST_S: Final = 10
"""So many seconds' worth may come at once."""


class TokenBucket:
    """`rate_per_s` on average, `burst` at once. A rate of 0 is no limit."""

    __slots__ = ("_burst", "_last_ns", "_rate", "_tokens")

    def __init__(self, rate_per_s: float, burst: float, *, now_ns: int) -> None:
        self._rate = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._last_ns = now_ns

    def take(self, now_ns: int, amount: float = 1) -> bool:
        """So much more? False when there was too much."""
        if not self._rate:
            return True
        gained = (now_ns - self._last_ns) / 1e9 * self._rate
        self._last_ns = now_ns
        self._tokens = min(self._burst, self._tokens + gained)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def give_back(self, amount: float) -> None:
        """So much of what was taken was not needed."""
        self._tokens = min(self._burst, self._tokens + amount)


class FloodLimits:
    """Of all connections of this server."""

    def __init__(
        self, *, clock: Clock, session_messages_per_s: float = 0, client_joins_per_s: float = 0
    ) -> None:
        self._clock = clock
        self._messages_per_s = session_messages_per_s
        self._joins_per_s = client_joins_per_s
        self._sessions: dict[str, TokenBucket] = {}
        self._clients: dict[str, TokenBucket] = {}

    def message(self, session_id: str) -> bool:
        """May this session, which exists, send one more message?"""
        return self._take(self._sessions, session_id, self._messages_per_s)

    def join(self, client_id: str) -> bool:
        """May this client make one more session?"""
        return self._take(self._clients, client_id, self._joins_per_s)

    def forget(self, session_id: str) -> None:
        """The session has ended."""
        self._sessions.pop(session_id, None)

    def _take(self, buckets: dict[str, TokenBucket], key: str, rate: float) -> bool:
        now_ns = self._clock.monotonic_ns()
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = TokenBucket(rate, rate * BURST_S, now_ns=now_ns)
        return bucket.take(now_ns)
