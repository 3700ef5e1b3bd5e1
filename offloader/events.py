"""Job events: who listens is told what becomes of jobs, as it happens.

A listener that is too slow loses the oldest events and is told how many. What other replicas do is found by
looking at the store now and then, and only while somebody listens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from clientauth.service import Identity
from foundation.channel import Channel, Overflow
from foundation.logs import get_logger
from offloader.errors import StoreError, TooManyListeners
from offloader.models import Job
from offloader.store.base import JobStore

LOOK_EVERY_S: Final = 2.0
_QUEUE: Final = 256
_LISTENERS: Final = 100

log = get_logger()


class Listener:
    """One subscription; iterate `jobs` until it is closed."""

    def __init__(self, client: Identity, *, capacity: int) -> None:
        self._client = client
        self.jobs: Channel[Job] = Channel(capacity, overflow=Overflow.DROP_OLDEST)
        self._told_dropped = 0

    def may_see(self, job: Job) -> bool:
        return self._client.admin or job.client_id == self._client.client_id

    def newly_dropped(self) -> int:
        """Events lost since this was asked last."""
        dropped = self.jobs.statistics().dropped
        new, self._told_dropped = dropped - self._told_dropped, dropped
        return new


class JobEvents:
    """One per process: `changed` is told of every change, `run` finds those of other replicas."""

    def __init__(self, store: JobStore, *, capacity: int = _QUEUE) -> None:
        self._store = store
        self._capacity = capacity
        self._listeners: set[Listener] = set()
        self._live: dict[str, Job] = {}
        """Live jobs as they were told last; kept while somebody listens."""
        self._told = 0
        self.closing = asyncio.Event()
        """Set when the service ends: streams end with it."""
        self._somebody = asyncio.Event()

    def changed(self, before: Job | None, after: Job) -> None:
        """An observer of the store: tell everybody who may know, if it concerns them."""
        if before is None or _shown(before) != _shown(after):
            self._tell(after)

    def check_room(self) -> None:
        """Raises TooManyListeners: a hundred listen already, or the service is ending."""
        if self.closing.is_set() or len(self._listeners) >= _LISTENERS:
            raise TooManyListeners

    @asynccontextmanager
    async def listen(self, client: Identity) -> AsyncIterator[Listener]:
        """Everything that becomes of the client's jobs (admin: of all), beginning with its live jobs.

        Raises:
            TooManyListeners: see `check_room`.
            StoreError: the database cannot be used.
        """
        self.check_room()
        listener = Listener(client, capacity=self._capacity)
        self._listeners.add(listener)
        self._somebody.set()
        try:
            for job in await self._store.live():
                self._live.setdefault(job.id, job)
                if listener.may_see(job) and not listener.jobs.closed:
                    listener.jobs.offer(job)
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._somebody.clear()
                self._live.clear()

    async def run(self) -> None:
        """Look at the store while somebody listens; until cancelled."""
        while True:
            await self._somebody.wait()
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(StoreError):
                await self.look()

    async def look(self) -> None:
        """Find what this process was not told of."""
        told = self._told
        live = {job.id: job for job in await self._store.live()}
        gone = [job_id for job_id in self._live if job_id not in live]
        found = [*live.values(), *[await self._store.get(job_id) for job_id in gone]]
        if self._told != told:
            return  # what was read may be older than what was told meanwhile: look again
        for job in found:
            if job is not None and _shown(self._live.get(job.id)) != _shown(job):
                self._tell(job)
        for job_id in gone:
            self._live.pop(job_id, None)

    def close(self) -> None:
        """The service is ending: whoever listens gets what is queued, then the end. Idempotent."""
        self.closing.set()
        for listener in self._listeners:
            listener.jobs.close()

    def _tell(self, job: Job) -> None:
        self._told += 1
        if not self._listeners:
            return
        if job.live:
            self._live[job.id] = job
        else:
            self._live.pop(job.id, None)
        for listener in self._listeners:
            if listener.may_see(job) and not listener.jobs.closed:
                listener.jobs.offer(job)


def _shown(job: Job | None) -> object:
    """What an event is about: the rest of a job may change without one."""
    if job is None:
        return None
    publication = job.outbox.publication if job.outbox else None
    return (job.state, job.stop_reason, job.post_call, job.unpublished, publication)
