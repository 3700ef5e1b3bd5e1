"""Keeps media on a way that works: when one dies under a call, an ICE restart looks for another.

Our own SFU would follow a nomination of another pair alone. The original does not where that is of lower
priority, as TCP is, and ends the session 30 s after the path died. An address of this host that comes is
told to the SFU and tried where there is need; with one that goes its paths are dead at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from callclient.events import CallEvent, MediaLost, MediaRestored
from callclient.path_watch import Advice, PathWatch
from callclient.transport import MediaTransport
from foundation.logs import get_logger

_LOOK_EVERY_S: Final = 0.1
_ADDRESSES_EVERY_S: Final = 2.0
"""Reading them takes a millisecond or two, in a thread."""


class PathKeeper:
    """`run` in a task of the owner, from the first connection on."""

    def __init__(
        self,
        transport: MediaTransport,
        *,
        offer_restart: Callable[[], Awaitable[bool]],
        emit: Callable[[CallEvent], None],
    ) -> None:
        """`offer_restart()`: offer it; was it answered? `emit` gets MediaLost and MediaRestored."""
        self._transport = transport
        self._offer_restart = offer_restart
        self._emit = emit
        self._watch = PathWatch(time.monotonic_ns())
        self._lost = False
        self.restarts = 0
        """ICE restarts that were answered."""
        self._log = get_logger(component="path")

    async def run(self) -> NoReturn:
        """Until cancelled. Gives up nothing: ICE says when all is lost."""
        self._watch = watch = PathWatch(time.monotonic_ns())
        restarting: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_addresses(), name="addresses")
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                transport = self._transport
                advice = watch.look(
                    time.monotonic_ns(),
                    heard_ns=transport.heard_ns,
                    doubtful=transport.doubtful,
                    gone=transport.gone,
                )
                self._tell()
                if advice is Advice.PROBE:
                    transport.probe()
                elif advice is Advice.RESTART and (restarting is None or restarting.done()):
                    restarting = tasks.create_task(self._restart(), name="ice-restart")
        raise AssertionError("only cancelling ends it")

    async def _restart(self) -> None:
        self._log.warning("path.dead", pairs=[str(pair) for pair in self._transport.pairs()])
        self._transport.in_need()
        if await self._offer_restart():
            self.restarts += 1
            self._log.info("path.restarted")
        else:
            self._watch.restart_failed(time.monotonic_ns())

    def _tell(self) -> None:
        since_ns = self._watch.lost_since_ns
        if since_ns is not None and not self._lost:
            self._lost = True
            self._emit(MediaLost(since_ns))
        elif since_ns is None and self._lost:
            self._lost = False
            self._emit(MediaRestored(time.monotonic_ns()))

    async def _follow_addresses(self) -> None:
        while True:
            await asyncio.sleep(_ADDRESSES_EVERY_S)
            await self._transport.follow_addresses()
