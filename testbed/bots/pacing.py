"""Pacing by absolute deadlines: a late wake-up catches up, nothing ever drifts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from foundation.clock import Clock

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Grid:
    """Moments at `zero_ns + index × interval_ns` on the monotonic clock."""

    zero_ns: int
    interval_ns: int

    def at_ns(self, index: int) -> int:
        return self.zero_ns + index * self.interval_ns

    def next_index(self, now_ns: int) -> int:
        """The first moment at or after `now_ns`."""
        return -(-(now_ns - self.zero_ns) // self.interval_ns)


class DriftingClock:
    """A device's clock that runs wrong by a few millionths; right at `zero_ns`."""

    def __init__(self, clock: Clock, *, zero_ns: int, ppm: float) -> None:
        """`ppm`: parts per million; positive is fast."""
        self._clock = clock
        self._zero_ns = zero_ns
        self._ppm = ppm

    def monotonic_ns(self) -> int:
        now_ns = self._clock.monotonic_ns()
        return now_ns + round((now_ns - self._zero_ns) * self._ppm / 1e6)

    def utc_now(self) -> datetime:
        return self._clock.utc_now()

    def true_ns(self, at_ns: int) -> int:
        """When this clock shows `at_ns`, by the right one."""
        return self._zero_ns + round((at_ns - self._zero_ns) / (1 + self._ppm / 1e6))


async def sleep_until(clock: Clock, at_ns: int) -> None:
    """Return at `at_ns` or as soon as possible after it, never before."""
    while True:
        wait_ns = at_ns - clock.monotonic_ns()
        if wait_ns <= 0:
            return
        await asyncio.sleep(wait_ns / _NS)


async def ticks(clock: Clock, grid: Grid) -> AsyncIterator[int]:
    """Every index of the grid from now on, each when it is due; overdue ones follow without a wait."""
    index = grid.next_index(clock.monotonic_ns())
    while True:
        await sleep_until(clock, grid.at_ns(index))
        yield index
        index += 1
