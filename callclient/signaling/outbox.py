"""What goes to the server: at most 10 messages a second, control before captions (trap 15)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from foundation.clock import Clock

RATE_PER_S: Final = 9.0
"""The server takes 10/s per session and drops the rest in silence."""
BURST: Final = 80.0
"""It allows 100. Whoever joins a full call has as many offers to answer at once."""
CAPTION_LIFE_S: Final = 5.0
"""For so long clients show a caption: one that waited longer says nothing any more."""
_MIN_WAIT_S: Final = 0.001
"""A rounding error of the token count must not become a busy loop."""
_CONTROL_CAPACITY: Final = 512
_CAPTION_CAPACITY: Final = 50


@dataclass(frozen=True, slots=True, eq=False)
class OutgoingMessage:
    """Becomes a frame in the moment of sending."""

    frame: Callable[[int], str | bytes]
    """Called with the sequence number. Raises WireError for what is too large for the server."""
    stale_after_ns: int | None = None
    """Not sent any more after this, on the clock's monotonic time."""


class Outbox:
    """Messages wait here while there is no socket, or for their turn."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._control: deque[OutgoingMessage] = deque()
        self._captions: deque[OutgoingMessage] = deque()
        self._something = asyncio.Event()
        self._tokens = BURST
        self._refilled_ns = clock.monotonic_ns()
        self.captions_dropped = 0
        """Gave way to newer ones, or were too old when their turn came."""

    @property
    def congested(self) -> bool:
        """Would a control message have to wait for its turn?"""
        return bool(self._control) or self._wait_s() > 0

    def control(self, frame: Callable[[int], str | bytes]) -> None:
        """Queue a control message; none is ever dropped before 512 wait.

        Raises:
            OverflowError: the server has not taken anything for very long.
        """
        if len(self._control) >= _CONTROL_CAPACITY:
            raise OverflowError(f"{_CONTROL_CAPACITY} signaling messages wait unsent")
        self._control.append(OutgoingMessage(frame))
        self._something.set()

    def caption(self, frame: Callable[[int], str | bytes]) -> None:
        """Queue a caption, or what matters as little; the oldest one gives way when too many wait."""
        if len(self._captions) == _CAPTION_CAPACITY:
            self._captions.popleft()
            self.captions_dropped += 1
        stale_after_ns = self._clock.monotonic_ns() + round(CAPTION_LIFE_S * 1e9)
        self._captions.append(OutgoingMessage(frame, stale_after_ns))
        self._something.set()

    def again(self, message: OutgoingMessage) -> None:
        """Put back what `next` gave last: it could not be sent. It is the first of its kind then."""
        queue = self._control if message.stale_after_ns is None else self._captions
        queue.appendleft(message)
        self._something.set()

    async def next(self) -> OutgoingMessage:
        """The message to send now; waits for one and for its turn."""
        while True:
            self._drop_stale()
            if not self._control and not self._captions:
                self._something.clear()
                await self._something.wait()
                continue
            wait_s = self._wait_s()
            if wait_s > 0:
                await asyncio.sleep(max(wait_s, _MIN_WAIT_S))
                continue
            self._tokens -= 1
            return self._control.popleft() if self._control else self._captions.popleft()

    def _drop_stale(self) -> None:
        now_ns = self._clock.monotonic_ns()
        while self._captions and now_ns > (self._captions[0].stale_after_ns or now_ns):
            self._captions.popleft()
            self.captions_dropped += 1

    def _wait_s(self) -> float:
        now_ns = self._clock.monotonic_ns()
        self._tokens = min(BURST, self._tokens + (now_ns - self._refilled_ns) / 1e9 * RATE_PER_S)
        self._refilled_ns = now_ns
        return (1 - self._tokens) / RATE_PER_S
