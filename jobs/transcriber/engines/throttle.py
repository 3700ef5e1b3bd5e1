"""How hard a speech service may be asked: at once, per minute, and after it said "not now". Thread-safe."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_MINUTE_S: Final = 60.0


class Throttle:
    """Callers block in `turn` until it is theirs."""

    def __init__(
        self,
        *,
        at_once: int,
        per_minute: int = 0,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`per_minute` 0: as many as the service takes."""
        self._slots = threading.BoundedSemaphore(at_once)
        self._per_minute = per_minute
        self._now_s = now_s
        self._sleep = sleep
        self._lock = threading.Lock()
        self._begun: deque[float] = deque()
        """When the requests of the last minute began, or will begin."""
        self._not_before_s = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One request."""
        with self._slots:
            wait_s = self._reserve()
            if wait_s > 0:
                self._sleep(wait_s)
            yield

    def pause(self, seconds: float) -> None:
        """The service wants to be left alone: that holds for everybody."""
        with self._lock:
            self._not_before_s = max(self._not_before_s, self._now_s() + seconds)

    def _reserve(self) -> float:
        """Seconds until the request that is booked herewith may begin."""
        with self._lock:
            now_s = self._now_s()
            begin_s = max(now_s, self._not_before_s)
            if self._per_minute:
                if len(self._begun) >= self._per_minute:
                    begin_s = max(begin_s, self._begun[-self._per_minute] + _MINUTE_S)
                self._begun.append(begin_s)
                while len(self._begun) > self._per_minute:
                    self._begun.popleft()
            return begin_s - now_s
