"""Where jobs wait for a place: a short while, well inside the plugin's minute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.admission import AdmissionPolicy, admits, check_disk
from offloader.errors import CapacityReached, CreationFailed
from offloader.models import Job
from offloader.store.base import JobStore, Lease

_LOOK_EVERY_S: Final = 1.0
"""Places are also made by other replicas, which tell nobody."""

log = get_logger()


class Entrance:
    """One per process. Lives on the event loop."""

    def __init__(
        self,
        *,
        store: JobStore,
        policy: AdmissionPolicy,
        free_disk: Callable[[], Awaitable[int | None]],
        clock: Clock,
        wait_s: float,
        lease: Lease | None = None,
    ) -> None:
        """`lease`: who watches over the jobs that get in; None: nobody else could."""
        self.policy = policy
        self._store = store
        self._free_disk = free_disk
        self._clock = clock
        self._wait_s = wait_s
        self._lease = lease
        self._room = asyncio.Event()
        self._turn = asyncio.Lock()
        self._on_waited: list[Callable[[float, bool], None]] = []
        self.closed = False
        """Nobody gets in: the service drains, or is about to end."""
        self._ending = False

    def room_made(self) -> None:
        """A job has given up its place: whoever waits looks again."""
        self._room.set()

    def close(self, *, for_good: bool = False) -> None:
        """Refuse everybody, also those who wait. `for_good`: the service ends, nothing reopens it."""
        self.closed = True
        self._ending = self._ending or for_good
        self._room.set()

    def reopen(self) -> bool:
        """Let jobs in again; False when it is closed for good."""
        self.closed = self._ending
        return not self.closed

    def on_waited(self, observer: Callable[[float, bool], None]) -> None:
        """Call `observer(seconds, admitted)` for every job that asked."""
        self._on_waited.append(observer)

    async def enter(self, job: Job) -> None:
        """Reserve a place for `job`, waiting for one if need be.

        Raises:
            CapacityReached: none was free in time.
            DiskTooFull: no room for what it may write.
            CreationFailed: the service is about to end.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await self._enter(job, until_s=began_s + self._wait_s)
        except CreationFailed:
            self._tell(loop.time() - began_s, admitted=False)
            raise
        self._tell(loop.time() - began_s, admitted=True)

    async def _enter(self, job: Job, *, until_s: float) -> None:
        try:
            return await self._try(job)
        except CapacityReached:
            if self._wait_s <= 0:
                raise
        log.info("admission.waiting", job_id=job.id, at_most_s=self._wait_s)
        loop = asyncio.get_running_loop()
        async with self._turn:  # first come, first served
            while True:
                self._room.clear()
                try:
                    return await self._try(job)
                except CapacityReached:
                    left_s = until_s - loop.time()
                    if left_s <= 0:
                        raise
                # Only the waiting is cut short, never the reservation: its outcome must be known.
                try:
                    async with asyncio.timeout(min(left_s, _LOOK_EVERY_S)):
                        await self._room.wait()
                except TimeoutError:
                    continue

    async def _try(self, job: Job) -> None:
        if self.closed:
            if self._ending:
                raise CreationFailed("the service is shutting down")
            raise CreationFailed("the service is being drained and takes no new jobs")
        free_bytes = None
        if self.policy.min_free_disk_bytes is not None:
            free_bytes = await self._free_disk()
        admits = partial(self._admits, free_bytes=free_bytes)
        await self._store.reserve(job, admits=admits, lease=self._lease)

    def _admits(self, live: Sequence[Job], job: Job, *, free_bytes: int | None) -> bool:
        if not admits(live, job, policy=self.policy):
            return False
        check_disk(live, job, policy=self.policy, free_bytes=free_bytes, now=self._clock.utc_now())
        return True

    def _tell(self, seconds: float, *, admitted: bool) -> None:
        for observer in self._on_waited:
            observer(seconds, admitted)
