"""How long the bench itself stood still: a host that serves others delays packets as a network does."""

from __future__ import annotations

import asyncio
from typing import Final, NoReturn

from foundation.clock import Clock, SystemClock

_EVERY_S: Final = 0.01


class Standstill:
    """`watch` in a task of the loop; cancel it in the end."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.longest_s = 0.0
        self._clock = clock or SystemClock()

    async def watch(self) -> NoReturn:
        while True:
            before_ns = self._clock.monotonic_ns()
            await asyncio.sleep(_EVERY_S)
            took_s = (self._clock.monotonic_ns() - before_ns) / 1e9
            self.longest_s = max(self.longest_s, took_s - _EVERY_S)
