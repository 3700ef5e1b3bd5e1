"""Removes jobs, or their files alone, wherever they are; what cannot be reached now is done later.

A wish to delete is stored with the job, so it outlives restarts and engines that are away. A held job keeps
everything until it is released. Tokens go at once, for they need no host, unless another job needs them.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.backends.base import Backend
from offloader.errors import BackendError, FilesOutOfReach, JobIsHeld, JobIsRunning
from offloader.lost_jobs import LostJobs
from offloader.models import Job
from offloader.spent_tokens import forget_token_unless_needed
from offloader.store.base import JobStore, Lease, SecretStore, is_elsewhere

log = get_logger()


class Removal:
    """One per process."""

    def __init__(
        self,
        *,
        store: JobStore,
        backend: Backend,
        lost: LostJobs,
        clock: Clock,
        secrets: SecretStore | None = None,
        lease: Lease | None = None,
    ) -> None:
        """`secrets` None: no tokens are kept. `lease`: of which host this replica is; None: there is one."""
        self._store = store
        self._backend = backend
        self._lost = lost
        self._clock = clock
        self._secrets = secrets
        self._lease = lease

    async def delete(self, job: Job) -> bool:
        """Remove record, log, files and token. False: something is out of reach, and the job is removed as
        soon as it can be. A token that another result waits for stays until none does (`spent_tokens`).

        Raises:
            JobIsRunning: it has not finished.
            JobIsHeld: somebody holds it.
            JobNotFound: somebody else has removed it.
        """
        wanted = await self.doom(job)
        if self._secrets is not None:
            await forget_token_unless_needed(wanted, store=self._store, secrets=self._secrets)
        try:
            return await self.finish(wanted)
        except BackendError as error:
            log.warning("job.removal_waits", job_id=job.id, error=str(error))
            return False

    async def doom(self, job: Job) -> Job:
        """Take note that it is to be deleted, and raise as `delete`: from now on nobody holds it."""
        return await self._store.change(job.id, partial(_doomed, now=self._clock.utc_now()))

    async def finish(self, job: Job, *, host_is_gone: bool = False) -> bool:
        """Remove a job that is to be deleted; False: files of it are, or may be, left somewhere.

        `host_is_gone`: nobody waits any longer for the only host that reaches them.

        Raises:
            BackendError: its files cannot be reached now, and nothing was forgotten.
        """
        elsewhere = is_elsewhere(job, self._lease)
        if elsewhere and not host_is_gone:
            raise BackendError(f"its files are on host {job.host}, whose service removes them")
        left = elsewhere
        # Files first, so that none is orphaned.
        if job.workload is not None and not elsewhere:
            try:
                await self._backend.remove(job.workload)
            except FilesOutOfReach as error:
                left = True
                log.warning("job.files_left", job_id=job.id, error=str(error))
        await self._lost.forget(job)
        await self._store.delete(job.id, files_left=left)
        log.info("job.deleted", job_id=job.id)
        return not left

    async def erase(self, job: Job) -> None:
        """Remove the files of a published job here; record and log stay.

        Raises:
            JobIsHeld: somebody holds it.
            JobIsRunning: its kept audio is being transcribed again.
            JobNotFound: somebody has removed it.
            BackendError: they cannot be reached now.
        """
        now = self._clock.utc_now()
        erasing = await self._store.change(job.id, partial(_erasing, now=now))
        if erasing.workload is not None:
            await self._backend.erase(erasing.workload)
            await self._lost.erase(erasing)
        await self._store.change(job.id, lambda present: replace(present, left_bytes=0))
        log.info("job.files_erased", job_id=job.id)


def _doomed(job: Job, *, now: datetime) -> Job:
    """It is to be deleted. Raises JobIsRunning and JobIsHeld."""
    _check_free(job)
    return job if job.deletion_at else replace(job, deletion_at=now)


def held(job: Job, *, hold: str) -> Job:
    """Nobody removes it from now on; one that is being removed already is left as it is."""
    return job if job.deletion_at else replace(job, hold=hold)


def released(job: Job) -> Job:
    """It may be removed again."""
    return replace(job, hold="")


def _erasing(job: Job, *, now: datetime) -> Job:
    _check_free(job)
    return replace(job, erased_at=job.erased_at or now)


def _check_free(job: Job) -> None:
    if job.live or job.retranscribing:
        raise JobIsRunning
    if job.hold:
        raise JobIsHeld(job.id, job.hold)
