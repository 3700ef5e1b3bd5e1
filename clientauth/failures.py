"""Wrong keys are slowed by where they come from: the more of them, the later their answers.

Only answers to wrong keys wait. What waits is bounded, of each source and in all, and so is what is
remembered, so a flood takes no more memory than a busy hour.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Final

from clientauth.turns import TooManyWaiting, source
from foundation.clock import Clock
from foundation.newest import keep_newest

FREE: Final = 10
"""Wrong keys that are answered at once: somebody mistypes, a plugin was set up again."""
FORGOTTEN_AFTER_NS: Final = 60_000_000_000
"""So long after the last one a source begins anew."""
_FIRST_S: Final = 0.25
LONGEST_S: Final = 4.0
_SOURCES: Final = 4096
_SLOWED_IN_ALL: Final = 1024


@dataclass(slots=True)
class _Source:
    count: int
    last_ns: int


class Failures:
    """Lives on one event loop. `slowed_each`: answers to one source that may wait."""

    def __init__(self, *, clock: Clock, slowed_each: int) -> None:
        self._clock = clock
        self._slowed_each = slowed_each
        self._sources: dict[str, _Source] = {}
        """The one that failed last is last."""
        self._slowed: Counter[str] = Counter()

    def check_room(self) -> None:
        """Raises TooManyWaiting: as many answers to this source wait as may."""
        if self._slowed[source()] >= self._slowed_each:
            raise TooManyWaiting

    async def slow(self) -> None:
        """One more wrong key from whoever sends this request: wait as long as its source has deserved."""
        sender = source()
        delay_s = self._note(sender)
        if not delay_s or self._slowed.total() >= _SLOWED_IN_ALL:
            return
        self._slowed[sender] += 1
        try:
            await asyncio.sleep(delay_s)
        finally:
            self._slowed[sender] -= 1
            if not self._slowed[sender]:
                del self._slowed[sender]

    def _note(self, sender: str) -> float:
        now_ns = self._clock.monotonic_ns()
        known = self._sources.get(sender)
        if known is None or now_ns - known.last_ns >= FORGOTTEN_AFTER_NS:
            known = _Source(0, now_ns)
        known.count, known.last_ns = known.count + 1, now_ns
        keep_newest(self._sources, sender, known, most=_SOURCES)
        steps = known.count - FREE - 1
        return min(_FIRST_S * 2 ** min(steps, 8), LONGEST_S) if steps >= 0 else 0.0
