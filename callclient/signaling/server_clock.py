"""The server's clock on this host's: an offset from the fastest of its answers so far (trap 43)."""

from __future__ import annotations

import time
from typing import Final

_NS_PER_MS: Final = 1_000_000


class ServerClock:
    """Pure but for the fallback: before the first answer the two clocks are taken to agree."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._best_round_trip_ns = 1 << 62

    def measured(self, server_ms: int, *, sent_ns: int, received_ns: int) -> None:
        """An answer said `server_ms`; the slower the round trip, the less it is worth."""
        round_trip_ns = received_ns - sent_ns
        if round_trip_ns <= self._best_round_trip_ns:
            self._best_round_trip_ns = round_trip_ns
            self._offset_ns = server_ms * _NS_PER_MS - (sent_ns + received_ns) // 2

    def to_monotonic_ns(self, server_ms: int) -> int:
        """A time on the server's clock as this host's monotonic clock."""
        offset_ns = self._offset_ns
        if offset_ns is None:
            offset_ns = time.time_ns() - time.monotonic_ns()
        return server_ms * _NS_PER_MS - offset_ns
