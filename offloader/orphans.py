"""Workloads of no job: what a lost or restored database, or a deletion cut short, leaves on a backend.

They are left alone while they run, and for good while they hold something unpublished: then an admin can
finish them by hand (docs/job-contract.md 4). Ended ones without a result go after a while, those whose jobs
were deleted while their host was away at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from foundation.logs import get_logger
from offloader.backends.base import Backend, Phase
from offloader.errors import BackendError
from offloader.store.base import JobStore

log = get_logger()


async def sweep_orphans(
    *, backend: Backend, store: JobStore, kept_for: timedelta | None, now: datetime
) -> int:
    """Remove ended workloads of no job, `kept_for` after their ends (None: never); how many there are left.

    Raises:
        BackendError: the backend cannot be asked.
        StoreError: the store cannot be asked.
    """
    found = await backend.adopt()
    orphans = {
        job_id: workload for job_id, workload in found.items() if await store.get(job_id) is None
    }
    left = len(orphans)
    for job_id, workload in orphans.items():
        try:
            observation = await backend.poll(workload)
            ended = observation.phase in (Phase.EXITED, Phase.LOST)
            deleted = await store.was_deleted(job_id)  # while nobody reached it
            if not ended or (observation.unpublished and not deleted):
                continue
            # Of a lost one nobody knows when it ended: it ended before anybody looked, so it goes as well.
            since = observation.stopped_at
            young = kept_for is None or (since is not None and now - since < kept_for)
            if young and not deleted:
                continue
            # A job may have been created since `adopt`: its record comes before its workload.
            if await store.get(job_id) is not None:
                continue
            await backend.remove(workload)
            left -= 1
            log.info("orphan.removed", job_id=job_id)
        except BackendError as error:
            log.warning("orphan.not_removed", job_id=job_id, error=str(error))
    if left:
        log.warning("orphans.left", count=left)
    return left
