"""Lines that anybody can cause without a login: so many a minute are told, the rest is summed up.

A flood must neither fill the disk nor push older lines out of a log that is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Final

from foundation.clock import Clock, SystemClock
from foundation.logs import get_logger

OF_ONE_SOURCE: Final = 5
IN_ALL: Final = 60
WINDOW_S: Final = 60.0
_SOURCES: Final = 1024
"""That are told apart in a window; those beyond count as one."""

log = get_logger()


class LimitedLines:
    """Those of one event; lives on one event loop. Within a window so many of each source and so many of
    all become lines. When it ends a warning `EVENT_left_out` tells how many did not: `count`, `sources`, and
    of the one that caused most `most_from` and `most`.
    """

    def __init__(
        self,
        event: str,
        *,
        level: int = logging.WARNING,
        of_one_source: int = OF_ONE_SOURCE,
        in_all: int = IN_ALL,
        clock: Clock | None = None,
        window_s: float = WINDOW_S,
    ) -> None:
        """`level`: of the lines themselves."""
        self._event = event
        self._level = level
        self._of_one_source = of_one_source
        self._in_all = in_all
        self._clock = clock or SystemClock()
        self._window_s = window_s
        self._ends_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._told: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def tell(self, source: str, **fields: object) -> None:
        """One more; `source`: whom it counts against."""
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._ends_ns:
            self._end()
            self._ends_ns = now_ns + round(self._window_s * 1e9)
        if self._told[source] < self._of_one_source and self._told.total() < self._in_all:
            self._told[source] += 1
            log.log(self._level, self._event, **fields)
            return
        known = source in self._left_out or len(self._left_out) < _SOURCES
        self._left_out[source if known else "others"] += 1
        if self._timer is None:  # nothing more may come
            left_s = (self._ends_ns - now_ns) / 1e9
            self._timer = asyncio.get_running_loop().call_later(left_s, self._end)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left_out:
            source, most = self._left_out.most_common(1)[0]
            event = f"{self._event}_left_out"
            log.warning(
                event,
                count=self._left_out.total(),
                sources=len(self._left_out),
                most_from=source,
                most=most,
            )
        self._ends_ns = 0
        self._told.clear()
        self._left_out.clear()
