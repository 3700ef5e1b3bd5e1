"""A bounded channel between tasks: the only queue of the product.

Media channels drop the oldest item and count it; control channels make the sender wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class ChannelClosed(Exception):
    """The channel was closed: nothing more can be sent, or everything sent has been received."""


class Overflow(Enum):
    """What a full channel does."""

    WAIT = "wait"
    """`send` waits for room; `offer` refuses. For control."""
    DROP_OLDEST = "drop_oldest"
    """The oldest item makes room and is counted. For media."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Counters since the channel was made."""

    sent: int
    received: int
    dropped: int
    waiting: int
    """Items in the channel now."""


class Channel(Generic[T]):
    """A bounded, closable queue for one event loop. Iterate it to receive until it is closed.

    `close` is idempotent; items already in the channel can still be received after it.
    """

    def __init__(self, capacity: int, *, overflow: Overflow = Overflow.WAIT) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._overflow = overflow
        self._items: deque[T] = deque()
        self._closed = False
        self._readers: deque[asyncio.Future[None]] = deque()
        self._writers: deque[asyncio.Future[None]] = deque()
        self._sent = self._received = self._dropped = 0

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def dropped(self) -> int:
        """`statistics().dropped`, for hot paths."""
        return self._dropped

    def offer(self, item: T) -> bool:
        """Put `item` in without waiting.

        Returns False when a WAIT channel is full; the item is then counted as dropped.

        Raises:
            ChannelClosed: after `close`.
        """
        if self._closed:
            raise ChannelClosed
        if len(self._items) >= self._capacity:
            self._dropped += 1
            if self._overflow is Overflow.WAIT:
                return False
            self._items.popleft()
        self._items.append(item)
        self._sent += 1
        _wake_one(self._readers)
        return True

    async def send(self, item: T) -> None:
        """Put `item` in; a WAIT channel waits for room. Cancelling leaves the item out.

        Raises:
            ChannelClosed: after `close`, also while waiting.
        """
        while (
            not self._closed
            and self._overflow is Overflow.WAIT
            and len(self._items) >= self._capacity
        ):
            await _park(self._writers)
        self.offer(item)

    async def receive(self) -> T:
        """The oldest item; waits for one.

        Raises:
            ChannelClosed: when the channel is closed and empty.
        """
        while not self._items:
            if self._closed:
                raise ChannelClosed
            await _park(self._readers)
        return self._take()

    def receive_nowait(self) -> T | None:
        """The oldest item, or None when there is none now."""
        return self._take() if self._items else None

    def close(self) -> None:
        """Refuse further items and wake everybody who waits."""
        self._closed = True
        while self._readers:
            _wake_one(self._readers)
        while self._writers:
            _wake_one(self._writers)

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(self._sent, self._received, self._dropped, len(self._items))

    def __aiter__(self) -> Channel[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except ChannelClosed:
            raise StopAsyncIteration from None

    def _take(self) -> T:
        item = self._items.popleft()
        self._received += 1
        _wake_one(self._writers)
        return item


async def _park(waiters: deque[asyncio.Future[None]]) -> None:
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled():
            _wake_one(waiters)  # the wake-up was meant for somebody: pass it on
        elif waiter in waiters:
            waiters.remove(waiter)
        raise


def _wake_one(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return
