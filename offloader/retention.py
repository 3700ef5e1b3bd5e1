"""How long what ended jobs leave is kept here: files of published results, records and logs, the unpublished.

What is not published is never removed to make room: its size is measured, for the quota and the alert. What
somebody holds is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from foundation.clock import Clock
from foundation.file_manifest import NAME as MANIFEST
from foundation.file_manifest import ManifestError, entries_of
from foundation.logs import get_logger
from foundation.tracebacks import summary
from offloader.backends.base import Artifact, Backend
from offloader.complaints import Complaints
from offloader.errors import BackendError, JobIsHeld, JobIsRunning, JobNotFound
from offloader.models import Job, Publication, Workload
from offloader.outbox_steps import entry_of
from offloader.removal import Removal
from offloader.settings import JobsSettings
from offloader.store.base import JobStore, Lease, is_elsewhere

HOST_MAY_RETURN: Final = timedelta(days=7)
"""So long a deletion waits for the only host that reaches the files."""
_PUBLISHED_REST: Final = re.compile(r"[^/]+/artifacts/.+")
"""All that our programs leave of a published result (docs/job-contract.md 4)."""
_MANIFEST: Final = re.compile(rf"[^/]+/artifacts/{re.escape(MANIFEST)}")
_LONGEST_MANIFEST_BYTES: Final = 4 << 20

_COMPLAIN_EVERY_NS: Final = 3600_000_000_000
"""What is tried every minute is one event."""

log = get_logger()


class Retention:
    """One per supervisor; `sweep` is one round, which may be repeated and left out at will."""

    def __init__(
        self,
        *,
        settings: JobsSettings,
        store: JobStore,
        backend: Backend,
        clock: Clock,
        removal: Removal,
        lease: Lease | None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._backend = backend
        self._clock = clock
        self._removal = removal
        self._lease = lease
        self._complaints = Complaints(clock, every_ns=_COMPLAIN_EVERY_NS)
        """When it was last said of a job that it cannot be removed."""

    def retune(self, settings: JobsSettings) -> None:
        """From now on, jobs are kept as these say."""
        self._settings = settings

    async def sweep(self) -> None:
        """Raises StoreError."""
        now = self._clock.utc_now()
        for job in await self._store.to_delete():
            here = not is_elsewhere(job, self._lease)
            if here or (job.deletion_at and now - job.deletion_at >= HOST_MAY_RETURN):
                await self._trying(job, self._remove)
        for job in await self._store.with_files():
            if not (job.hold or job.deletion_at or is_elsewhere(job, self._lease)):
                await self._trying(job, self._see_to_files)
        settings = self._settings
        kept = [d for d in (settings.completed_jobs_retention, settings.failed_jobs_retention) if d]
        for job in await self._store.finished_before(now - min(kept)) if kept else ():
            if self._is_old(job, now):
                await self._trying(job, self._remove)

    async def _see_to_files(self, job: Job) -> None:
        if _is_from_before(job):
            return
        if job.left_bytes is None and (job.unpublished or job.published_at is None):
            job = await self._measured(job)
        # A failed job of a foreign image may have left just what is missing elsewhere.
        if job.unpublished or job.retranscribing or job.published_at is None:
            return
        since = job.published_at
        if job.retranscription is not None and job.retranscription.ended_at is not None:
            since = max(since, job.retranscription.ended_at)
        if self._clock.utc_now() - since >= self._settings.keep_published:
            await self._removal.erase(job)

    async def _measured(self, job: Job) -> Job:
        """With what it left; a backend that has no way to the files leaves that open."""
        if job.workload is None:
            return await self._store.change(job.id, lambda now: replace(now, left_bytes=0))
        try:
            files = await self._backend.artifacts(job.workload)
            rest = not job.unpublished and await self._is_published_rest(job.workload, files)
        except BackendError as error:
            log.debug("job.files_not_measured", job_id=job.id, error=str(error))
            return job
        size = sum(file.size_bytes for file in files)

        def measured(now: Job) -> Job:
            published_at = now.published_at
            if rest and not now.unpublished:
                published_at = published_at or now.stopped_at
            return replace(now, left_bytes=size, published_at=published_at)

        return await self._store.change(job.id, measured)

    async def _is_published_rest(self, workload: Workload, files: Sequence[Artifact]) -> bool:
        """Whether a job that failed did so after its post. That nothing but artifacts is left does not tell:
        the release before kept them as long as the record, and to a foreign image the name may mean anything.
        Raises BackendError."""
        if not all(_PUBLISHED_REST.fullmatch(file.name) for file in files):
            return False
        for file in files:
            if _MANIFEST.fullmatch(file.name) and file.size_bytes <= _LONGEST_MANIFEST_BYTES:
                chunks = self._backend.read_artifact(workload, file.name)
                return _tells_of_post(b"".join([chunk async for chunk in chunks]))
        return False

    def _is_old(self, job: Job, now: datetime) -> bool:
        if job.hold or job.deletion_at or job.retranscribing:
            return False
        if job.unpublished and entry_of(job).publication is not Publication.UNPUBLISHABLE:
            return False  # never before it is published or given up
        clean = job.exit_code == 0 and not job.unpublished
        settings = self._settings
        keep = settings.completed_jobs_retention if clean else settings.failed_jobs_retention
        assert job.stopped_at is not None
        if keep is not None and is_elsewhere(job, self._lease):
            keep += HOST_MAY_RETURN  # only there its files can be removed with it
        return keep is not None and now - job.stopped_at >= keep

    async def _remove(self, job: Job) -> None:
        doomed = job if job.deletion_at else await self._removal.doom(job)
        await self._removal.finish(doomed, host_is_gone=is_elsewhere(job, self._lease))

    async def _trying(self, job: Job, step: Callable[[Job], Awaitable[None]]) -> None:
        """What one job's host does not let us do is no reason to leave the others alone."""
        with suppress(JobNotFound, JobIsHeld, JobIsRunning):  # since it was looked at
            try:
                await step(job)
            except (BackendError, KeyError, ValueError) as error:
                if self._complaints.due(job.id):
                    log.error("job.removal_failed", job_id=job.id, error=summary(error))


def _tells_of_post(manifest: bytes) -> bool:
    """Our programs note what they keep once the post surely exists (docs/job-contract.md 4)."""
    try:
        return any(entry.get("event") == "kept" for entry in entries_of(manifest))
    except ManifestError:
        return False


def _is_from_before(job: Job) -> bool:
    """It was published by a release that took no note of it: its files were to stay as long as its record."""
    ended_well = job.exit_code == 0 or job.outbox is not None
    return ended_well and not job.unpublished and job.published_at is None
