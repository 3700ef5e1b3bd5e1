"""A job store that tells what becomes of jobs as it happens; everything else is the store behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from offloader.models import Job, JobState, JobType
from offloader.store.base import Claim, JobPage, JobStore, Lease

Observer = Callable[[Job | None, Job], None]
"""Called with a job before (None: it is new) and after a change that was stored. Must not block or raise."""


class ObservedJobStore:
    """See `JobStore`. Sees what this process does, not what other replicas do."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._observers: list[Observer] = []

    def on_change(self, observer: Observer) -> None:
        """Call `observer` after every change."""
        self._observers.append(observer)

    async def reserve(
        self,
        job: Job,
        *,
        admits: Callable[[Sequence[Job], Job], bool],
        lease: Lease | None = None,
    ) -> None:
        await self._store.reserve(job, admits=admits, lease=lease)
        self._tell(None, job)

    async def get(self, job_id: str) -> Job | None:
        return await self._store.get(job_id)

    async def change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        before: Job | None = None

        def step(present: Job) -> Job:
            nonlocal before
            before = present
            return change(present)

        after = await self._store.change(job_id, step)
        if after != before:
            self._tell(before, after)
        return after

    async def live(self) -> Sequence[Job]:
        return await self._store.live()

    async def finished_before(self, moment: datetime) -> Sequence[Job]:
        return await self._store.finished_before(moment)

    async def unpublished(self) -> Sequence[Job]:
        return await self._store.unpublished()

    async def with_files(self) -> Sequence[Job]:
        return await self._store.with_files()

    async def to_delete(self) -> Sequence[Job]:
        return await self._store.to_delete()

    async def unpublished_bytes(self) -> int:
        return await self._store.unpublished_bytes()

    async def retranscribing(self) -> Sequence[Job]:
        return await self._store.retranscribing()

    async def list_jobs(
        self,
        *,
        client_id: str | None = None,
        registration: str | None = None,
        job_type: JobType | None = None,
        state: JobState | None = None,
        since: datetime | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        return await self._store.list_jobs(
            client_id=client_id,
            registration=registration,
            job_type=job_type,
            state=state,
            since=since,
            before=before,
            limit=limit,
        )

    async def delete(self, job_id: str, *, files_left: bool = False) -> None:
        await self._store.delete(job_id, files_left=files_left)

    async def was_deleted(self, job_id: str) -> bool:
        return await self._store.was_deleted(job_id)

    async def claim(self, lease: Lease, *, take: bool = True) -> Claim:
        return await self._store.claim(lease, take=take)

    async def release(self, owner: str) -> None:
        await self._store.release(owner)

    def _tell(self, before: Job | None, after: Job) -> None:
        for observer in self._observers:
            observer(before, after)
