"""Turns at hashing: slow on purpose, so a flood of logins must neither take every core nor everybody's time.

Few at once, addresses in rotation: an address with a thousand logins delays another one by one hash, and
what it asks for beyond a bound is refused at once. So is what all of them together ask for beyond another.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Final

PEER: Final[ContextVar[str]] = ContextVar("peer", default="")
"""Address of whoever sent the request that is being answered; set by the HTTP door."""


def source() -> str:
    """Where the request that is being answered comes from, as far as limits go."""
    return source_of(PEER.get())


def source_of(address: str) -> str:
    """Whom limits count: an IPv4 address; of IPv6 the /64, which one host has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed.packed[:8] + bytes(8), 64)))


class TooManyWaiting(Exception):
    """This address, or all together, have as many logins waiting as they may."""


class HashingTurns:
    """Lives on one event loop. `waiting_each`: how many of one address may wait; `waiting_in_all`: of all."""

    def __init__(self, *, at_once: int, waiting_each: int, waiting_in_all: int = 1024) -> None:
        self._free = at_once
        self._waiting_each = waiting_each
        self._waiting_in_all = waiting_in_all
        self._waiting = 0
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        """Addresses in the order of their turns; never an empty queue."""

    def check_room(self) -> None:
        """Raises TooManyWaiting: asking for a turn now would; it spares what comes before the turn."""
        of_address = len(self._queues.get(source(), ()))
        if of_address >= self._waiting_each or self._waiting >= self._waiting_in_all:
            raise TooManyWaiting

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One hash. Raises TooManyWaiting at once rather than queueing without end."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self._free:
            self._free -= 1
            return
        address = source()
        self.check_room()
        queue = self._queues.setdefault(address, deque())
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # the turn was given meanwhile: pass it on
            elif turn in queue:
                queue.remove(turn)
                if not queue:
                    self._queues.pop(address, None)
            raise
        finally:
            self._waiting -= 1

    def _leave(self) -> None:
        while self._queues:
            address = next(iter(self._queues))
            queue = self._queues.pop(address)
            turn = queue.popleft()
            if queue:
                self._queues[address] = queue  # to the end of the rotation
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
