"""When jobs have lasted as long as they may.

Computed from the store, so it holds over restarts; within a process it then runs on the monotonic clock, so a
wall clock that jumps neither kills a job nor lets it run on.
"""

from __future__ import annotations

from collections.abc import Set
from datetime import timedelta

from foundation.clock import Clock
from offloader.models import Job


class Deadlines:
    """Of the jobs that this process watches."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ns: dict[str, int] = {}

    def passed(self, job: Job) -> bool:
        """Whether `job` has to end; its deadline is computed when it is asked about for the first time."""
        now_ns = self._clock.monotonic_ns()
        if job.id not in self._ns:
            left = job.deadline_at - self._clock.utc_now()
            self._ns[job.id] = now_ns + int(left / timedelta(microseconds=1)) * 1000
        return now_ns >= self._ns[job.id]

    @property
    def known(self) -> Set[str]:
        """IDs of the jobs that were asked about."""
        return self._ns.keys()

    def forget(self, job_id: str) -> None:
        """It is watched no more."""
        self._ns.pop(job_id, None)
