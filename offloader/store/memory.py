"""A job store in memory, for tests: the same promises, nothing kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from offloader.errors import CapacityReached, JobNotFound
from offloader.models import Job


class MemoryJobStore:
    """See `JobStore`. Nothing in it awaits, so every method is atomic."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    async def reserve(self, job: Job, *, admits: Callable[[Sequence[Job], Job], bool]) -> None:
        if not admits(self._live(), job):
            raise CapacityReached
        self._jobs[job.id] = job

    async def get(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    async def change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        if job_id not in self._jobs:
            raise JobNotFound(job_id)
        self._jobs[job_id] = change(self._jobs[job_id])
        return self._jobs[job_id]

    async def live(self) -> Sequence[Job]:
        return self._live()

    async def finished_before(self, moment: datetime) -> Sequence[Job]:
        stopped = [(job.stopped_at, job) for job in self._jobs.values() if not job.live]
        early = [(at, job) for at, job in stopped if at is not None and at < moment]
        return [job for _, job in sorted(early, key=lambda pair: pair[0])]

    async def unpublished(self) -> Sequence[Job]:
        left = [job for job in self._jobs.values() if not job.live and job.unpublished]
        return sorted(left, key=lambda job: job.stopped_at or job.created_at)

    async def delete(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    def _live(self) -> list[Job]:
        live = [job for job in self._jobs.values() if job.live]
        return sorted(live, key=lambda job: job.created_at)
