"""The server's clock on this host's: an offset from the fastest of its newer answers (trap 43)."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

_NS_PER_MS: Final = 1_000_000
_REMEMBERED_NS: Final = 300 * 1_000_000_000
"""Two clocks part by up to 50 µs a second: an answer of hours ago, however fast, is worth little."""
_CAPACITY: Final = 256


@dataclass(frozen=True, slots=True)
class _Answer:
    received_ns: int
    round_trip_ns: int
    offset_ns: int
    """Server's time minus our monotonic time."""


class ServerClock:
    """Pure but for the fallback: before the first answer the two clocks are taken to agree."""

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque(maxlen=_CAPACITY)

    @property
    def measured_once(self) -> bool:
        return bool(self._answers)

    @property
    def round_trip_s(self) -> float | None:
        """Of the answer that counts."""
        return min(a.round_trip_ns for a in self._answers) / 1e9 if self._answers else None

    def measured(self, server_ms: int, *, sent_ns: int, received_ns: int) -> None:
        """An answer said `server_ms`; the slower the round trip, the less it is worth."""
        while self._answers and received_ns - self._answers[0].received_ns > _REMEMBERED_NS:
            self._answers.popleft()
        offset_ns = server_ms * _NS_PER_MS - (sent_ns + received_ns) // 2
        self._answers.append(_Answer(received_ns, received_ns - sent_ns, offset_ns))

    def to_monotonic_ns(self, server_ms: int) -> int:
        """A time on the server's clock as this host's monotonic clock."""
        if self._answers:
            # The newest of equally fast ones.
            offset_ns = min(reversed(self._answers), key=lambda a: a.round_trip_ns).offset_ns
        else:
            offset_ns = time.time_ns() - time.monotonic_ns()
        return server_ms * _NS_PER_MS - offset_ns
