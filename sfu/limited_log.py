"""Log lines that somebody outside causes: so many, and no more. Whoever floods us must not fill the disk."""

from __future__ import annotations

import time
from typing import Any, Final

from sfu.flood import TokenBucket

LINES_PER_S: Final = 1
LINES_AT_ONCE: Final = 30


class LimitedLog:
    """Of one session. What is left out is counted all the same, by whoever refuses it."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._lines = TokenBucket(LINES_PER_S, LINES_AT_ONCE, now_ns=time.monotonic_ns())

    def info(self, event: str, **fields: Any) -> None:
        if self._lines.take(time.monotonic_ns()):
            self._log.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        if self._lines.take(time.monotonic_ns()):
            self._log.warning(event, **fields)
