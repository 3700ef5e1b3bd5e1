"""Being in the call: from the join to the moment when it is over, whoever ended it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from callclient.errors import CallError
from callclient.events import (
    CallEnded,
    CallEvent,
    JobKind,
    JobStateChanged,
    JobStopRequested,
    Joined,
)
from callclient.state import CallState
from foundation.logs import get_logger

_LEAVE_TIMEOUT_S: Final = 10.0
_log = get_logger(component="presence")


class CallPeer(Protocol):
    """What jobs need of `callclient.client.CallClient`."""

    @property
    def state(self) -> CallState: ...

    async def run(self) -> None: ...

    async def leave(self) -> None: ...

    def events(self) -> AsyncIterator[CallEvent]: ...

    def server_ms_to_monotonic_ns(self, server_ms: int) -> int: ...


class Presence:
    """Follows the call's events. `run` once; the rest may be read at any time."""

    def __init__(self, peer: CallPeer, *, on_event: Callable[[CallEvent], None]) -> None:
        """`on_event` gets every event, also those that came before the recording started."""
        self._peer = peer
        self._on_event = on_event
        self._changed = asyncio.Event()
        self.joined = False
        self.recording_start_ms = 0
        """The recording's `start_at` on the server's clock, 0 until it started."""
        self.recording_end_ms = 0
        """When the host stopped the recording, on the server's clock; 0 until then."""
        self.recording_over = False
        """It ended or failed."""
        self.over = False
        """Out of the call, or asked to leave it."""
        self.reason = ""
        """Why it is over, in words."""
        self.failure: CallError | None = None
        """Why the call client gave up, if it did."""

    async def run(self) -> None:
        """Stay until the call client ends; its failures are kept in `failure`, not raised."""
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(), name="call-events")
            try:
                await self._peer.run()
            except CallError as error:
                self.failure = error
                self.end(str(error))
            self.end("the call is over")
            # The stream of events ends with the client; do not rely on it.
            await asyncio.wait([following], timeout=1)
            following.cancel()

    async def until_started(self) -> bool:
        """Wait until joined and the recording has started: True; False when it was over before."""
        while not self.over and not self.recording_over:
            if self.joined and self.recording_start_ms:
                return True
            await self._next_change()
        return False

    async def until_joined(self) -> bool:
        """Wait for the join: True; False when it was over before."""
        while not self.joined and not self.over:
            await self._next_change()
        return self.joined

    async def until_recording_starts(self) -> None:
        """Wait for the recording's `start_at`, or for the end."""
        while not self.recording_start_ms and not self.over:
            await self._next_change()

    def clock_offset_s(self) -> float:
        """How far this host's clock and the server's are apart, seconds; 0 before the first answer of it."""
        our_ms = time.time_ns() // 1_000_000
        apart_ns = time.monotonic_ns() - self._peer.server_ms_to_monotonic_ns(our_ms)
        return round(abs(apart_ns) / 1e9, 3)

    async def leave(self, staying: asyncio.Task[None]) -> None:
        """Say goodbye and wait for `staying`, the task of `run`; cancels it when that takes too long."""
        try:
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await self._peer.leave()
                await asyncio.wait([staying])
        except TimeoutError:
            _log.warning("leave.timed_out", limit_s=_LEAVE_TIMEOUT_S)
            staying.cancel()

    async def until_over(self) -> None:
        while not self.over:
            await self._next_change()

    def end(self, reason: str) -> None:
        """It is over; the first reason counts."""
        if not self.over:
            self.over, self.reason = True, reason
            _log.info("call.over", reason=reason)
        self._changed.set()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _follow(self) -> None:
        async for event in self._peer.events():
            self._take(event)
            self._changed.set()

    def _take(self, event: CallEvent) -> None:
        match event:
            case Joined():
                self.joined = True
            case JobStateChanged(kind=JobKind.RECORDING):
                # Only the first start counts: zero never moves.
                self.recording_start_ms = self.recording_start_ms or event.start_at_ms
                self.recording_over = self.recording_over or event.end_at_ms > 0
                if not event.error:
                    self.recording_end_ms = self.recording_end_ms or event.end_at_ms
            case JobStopRequested():
                self.end("asked to stop")
            case CallEnded():
                self.end(event.reason)
            case _:
                pass
        self._on_event(event)
