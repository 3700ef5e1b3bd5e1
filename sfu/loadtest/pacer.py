"""One clockwork for everything of a process that happens at times: packets, reports, pings."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Final

from sfu.loadtest.histogram import Histogram

_NS: Final = 1_000_000_000
_LONGEST_SLEEP_S: Final = 0.05
_CATCH_UP_NS: Final = 200_000_000
"""What is later than this is skipped: after a stop nobody sends seconds of media at once."""

Due = Callable[[int, int], int | None]
"""`(now_ns, due_ns)`: do it; returns when next, None for never again."""


class Pacer:
    """`run` in a task; `add` at any time."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Due]] = []
        self._numbers = itertools.count()
        self.lateness = Histogram()
        """How late things were done: what a process too busy shows first."""

    def add(self, due_ns: int, what: Due) -> None:
        """Call `what` at `due_ns` of the monotonic clock, and again as it says."""
        heapq.heappush(self._heap, (due_ns, next(self._numbers), what))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now_ns = self.do_due()
            next_ns = self._heap[0][0] if self._heap else now_ns + _NS
            # Zero lets packets in between; the loop must breathe even when everything is late.
            await asyncio.sleep(min(max(0.0, (next_ns - now_ns) / _NS), _LONGEST_SLEEP_S))

    def do_due(self) -> int:
        """Do everything that is due by now; returns the time."""
        heap = self._heap
        now_ns = time.monotonic_ns()
        limit_ns = now_ns
        while heap and heap[0][0] <= limit_ns:
            due_ns, number, what = heap[0]
            now_ns = time.monotonic_ns()
            next_ns = what(now_ns, due_ns)
            self.lateness.record(now_ns - due_ns)
            if next_ns is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (max(next_ns, now_ns - _CATCH_UP_NS), number, what))
        return now_ns
