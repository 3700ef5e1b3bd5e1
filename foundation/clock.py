"""Clocks: one real, one that tests move by hand.

Media and time-outs use the monotonic clock in nanoseconds; wall time is only for people and for the wire.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where a component reads time. Two clocks never meet in one subtraction."""

    def monotonic_ns(self) -> int:
        """This host's monotonic clock, ns. On Linux it is shared by all processes of the host."""

    def utc_now(self) -> datetime:
        """Aware wall time in UTC; may jump."""


class SystemClock:
    """The real clock."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def utc_now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock for tests: stands still until `advance`."""

    def __init__(self, *, utc: datetime = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)) -> None:
        self._monotonic_ns = 1_000_000_000
        self._utc = utc

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def utc_now(self) -> datetime:
        return self._utc

    def advance(self, *, seconds: float) -> None:
        """Move both clocks forward; `seconds` must not be negative."""
        if seconds < 0:
            raise ValueError(f"seconds must not be negative, got {seconds}")
        self._monotonic_ns += round(seconds * 1_000_000_000)
        self._utc += timedelta(seconds=seconds)


def rfc3339(moment: datetime) -> str:
    """In UTC, to the microsecond: `2026-01-31T10:00:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since the epoch, the unit of every time on the Calls wire."""
    return round(moment.timestamp() * 1000)
