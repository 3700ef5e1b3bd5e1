"""Jobs whose launch nobody stored: what was launched is looked for on the backend until that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial

from offloader.backends.base import Backend
from offloader.errors import BackendError, IllegalTransition
from offloader.lifecycle import launched, not_started
from offloader.models import Job, JobState, Workload
from offloader.store.base import JobStore


class Unlaunched:
    """One per supervisor."""

    def __init__(
        self,
        *,
        store: JobStore,
        backend: Backend,
        finish: Callable[[Job, Callable[[Job], Job]], Awaitable[None]],
        is_elsewhere: Callable[[Job], bool],
        now: Callable[[], datetime],
    ) -> None:
        """`finish` stores the end of a job. Jobs that ran elsewhere are left alone."""
        self._store = store
        self._backend = backend
        self._finish = finish
        self._is_elsewhere = is_elsewhere
        self._now = now
        self._ids: set[str] = set()

    def add(self, jobs: Iterable[Job]) -> None:
        """Look for those of them whose launch is not stored."""
        self._ids |= {job.id for job in jobs if job.workload is None}

    @property
    def waiting(self) -> bool:
        """Some are still to be looked for."""
        return bool(self._ids)

    async def look(self) -> None:
        """Look for them now. Of a backend that does not answer nothing is concluded."""
        asked = set(self._ids)  # of those that come later the answer may tell nothing
        try:
            found = await self._backend.adopt()
        except BackendError:
            return  # the next round asks again; the failures are counted
        for job_id in sorted(asked):
            # Looked at again: their owner may only have been slow.
            if (job := await self._store.get(job_id)) is not None:
                await self.settle(job, found)
            self._ids.discard(job_id)

    async def settle(self, job: Job, found: Mapping[str, Workload]) -> None:
        """Nobody launches it any more; `found`: what is on the backend, by job ID."""
        if job.state is not JobState.PENDING or self._is_elsewhere(job):
            return
        try:
            if job.id in found:
                await self._store.change(job.id, partial(launched, workload=found[job.id]))
            else:
                detail = "the service ended before it could launch the job"
                await self._finish(job, partial(not_started, detail=detail, now=self._now()))
        except IllegalTransition:
            return  # its owner was only slow, and has stored it just now
