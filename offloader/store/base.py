"""The port behind which jobs are stored. Clients are kept behind `clientauth.store.ClientStore`.

Every store passes `tests/contract/test_store_contract.py` unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from offloader.models import Job


class JobStore(Protocol):
    """Keeps jobs. Each method is atomic, also against other processes on the same database.

    All raise `StoreError` when the database cannot be used. A cancelled write has happened or has not.
    """

    async def reserve(self, job: Job, *, admits: Callable[[Sequence[Job], Job], bool]) -> None:
        """Add `job` if `admits(live jobs, job)` says so; nobody is admitted in between.

        Raises:
            CapacityReached: it said no.
        """

    async def get(self, job_id: str) -> Job | None:
        """The job, or None."""

    async def change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Store `change(present job)` and return it; what `change` raises leaves the job as it was.

        Raises:
            JobNotFound: no such job.
        """

    async def live(self) -> Sequence[Job]:
        """Every job that has not finished, oldest first."""

    async def finished_before(self, moment: datetime) -> Sequence[Job]:
        """Finished jobs that stopped before `moment`, oldest first."""

    async def unpublished(self) -> Sequence[Job]:
        """Finished jobs that left a result of which no post surely exists, oldest first."""

    async def delete(self, job_id: str) -> None:
        """Forget the job. Idempotent."""
