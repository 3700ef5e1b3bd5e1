"""The server's clocks; one place, so that tests can give it another time."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Milliseconds since the epoch, as they go over the wire."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """For limits and waits."""
    return time.monotonic()
