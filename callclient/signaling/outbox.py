"""What goes to the server: at most 10 messages a second, control before captions (trap 15)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from foundation.clock import Clock

RATE_PER_S = 9.0
"""The server takes 10/s per session and drops the rest in silence."""
BURST = 20.0
"""It allows 100; far below, because ICE candidates of others share nothing but CPU."""
_MIN_WAIT_S = 0.001
"""A rounding error of the token count must not become a busy loop."""
_CONTROL_CAPACITY = 512
_CAPTION_CAPACITY = 50

Sender = Callable[[], Awaitable[None]]


class Outbox:
    """Messages wait here while there is no socket, or for their turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._control: deque[Sender] = deque()
        self._captions: deque[Sender] = deque(maxlen=_CAPTION_CAPACITY)
        self._something = asyncio.Event()
        self._tokens = BURST
        self._refilled_ns = clock.monotonic_ns()
        self.captions_dropped = 0

    def control(self, send: Sender) -> None:
        """Queue a control message; none is ever dropped before 512 wait.

        Raises:
            OverflowError: the server has not taken anything for very long.
        """
        if len(self._control) >= _CONTROL_CAPACITY:
            raise OverflowError(f"{_CONTROL_CAPACITY} signaling messages wait unsent")
        self._control.append(send)
        self._something.set()

    def caption(self, send: Sender) -> None:
        """Queue a caption; the oldest waiting one gives way when there are too many."""
        if len(self._captions) == _CAPTION_CAPACITY:
            self.captions_dropped += 1
        self._captions.append(send)
        self._something.set()

    def again(self, send: Sender) -> None:
        """Put back what `next` gave last: it could not be sent. It comes before everything else."""
        self._control.appendleft(send)
        self._something.set()

    async def next(self) -> Sender:
        """The message to send now; waits for one and for its turn."""
        while True:
            while not self._control and not self._captions:
                self._something.clear()
                await self._something.wait()
            wait_s = self._wait_s()
            if wait_s > 0:
                await asyncio.sleep(max(wait_s, _MIN_WAIT_S))
                continue
            self._tokens -= 1
            return self._control.popleft() if self._control else self._captions.popleft()

    def _wait_s(self) -> float:
        now_ns = self._clock.monotonic_ns()
        self._tokens = min(BURST, self._tokens + (now_ns - self._refilled_ns) / 1e9 * RATE_PER_S)
        self._refilled_ns = now_ns
        return (1 - self._tokens) / RATE_PER_S
