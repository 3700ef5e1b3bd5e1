"""Which of many live jobs are looked at in a round, and a few hundred looks at a time.

Up to two thousand jobs are looked at every second; of more than that only so many, those first that wait
longest, and always those that begin or end. So a round costs the same however many jobs there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from heapq import nsmallest
from typing import Final

from offloader.models import Job, JobState

_LOOKS_EACH_ROUND: Final = 2000
_LOGS_EACH_ROUND: Final = 200
"""A look at a log reads and searches tens of kilobytes."""
_AT_ONCE: Final = 256


class Looks:
    """One per supervisor."""

    def __init__(self, *, logs_every_ns: int) -> None:
        """`logs_every_ns`: how often a log is read, when there is time for all of them."""
        self._logs_every_ns = logs_every_ns
        self._looked_ns: dict[str, int] = {}
        self._read_ns: dict[str, int] = {}

    def turn(self, jobs: Sequence[Job], *, now_ns: int) -> tuple[Sequence[Job], Collection[str]]:
        """Those of `jobs` to be looked at now, and the IDs of those whose logs are to be read too."""
        self._forget_all_but(jobs)
        chosen: Sequence[Job] = jobs
        if len(jobs) > _LOOKS_EACH_ROUND:
            moving = [job for job in jobs if job.state is not JobState.RUNNING]
            others = [job for job in jobs if job.state is JobState.RUNNING]
            room = max(_LOOKS_EACH_ROUND - len(moving), _LOOKS_EACH_ROUND // 2)
            chosen = moving + nsmallest(
                room, others, key=lambda job: self._looked_ns.get(job.id, -1)
            )
        for job in chosen:
            self._looked_ns[job.id] = now_ns
        due = [job.id for job in chosen if self._is_due(job.id, now_ns)]
        read = nsmallest(_LOGS_EACH_ROUND, due, key=lambda job_id: self._read_ns.get(job_id, -1))
        for job_id in read:
            self._read_ns[job_id] = now_ns
        return chosen, frozenset(read)

    def _is_due(self, job_id: str, now_ns: int) -> bool:
        read_ns = self._read_ns.get(job_id)
        return read_ns is None or now_ns - read_ns >= self._logs_every_ns

    def _forget_all_but(self, jobs: Sequence[Job]) -> None:
        ids = {job.id for job in jobs}
        for known in (self._looked_ns, self._read_ns):
            for job_id in [job_id for job_id in known if job_id not in ids]:
                del known[job_id]


async def look_at_all(jobs: Sequence[Job], look: Callable[[Job], Awaitable[None]]) -> None:
    """`look` at each, a few hundred at a time, letting others have their turn in between.

    What one of them raises is raised when all were looked at: the first of it.
    """
    waiting = iter(jobs)
    failures: list[BaseException] = []

    async def some() -> None:
        for job in waiting:
            try:
                await look(job)
            except asyncio.CancelledError as error:
                failures.append(error)
                raise
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(len(jobs), _AT_ONCE)):
            tasks.create_task(some())
    if failures:
        raise failures[0]
