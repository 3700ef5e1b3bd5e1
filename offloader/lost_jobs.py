"""Jobs whose files went with their host: what is said about them, and what there is in their copies.

The outbox finishes them (`offloader.outbox`); here is what the supervisor asks at their end, and what clients
get of their logs and files, from any replica.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from foundation.logs import get_logger
from offloader.backends.base import Artifact, Backend, Observation
from offloader.copies import LOG_NAMES, JobCopies, result_of
from offloader.errors import BackendError, FilesGone
from offloader.lifecycle import host_lost
from offloader.models import Job, StopReason

_ADVICE: Final = "jobs.copies_url keeps all but the last seconds elsewhere"

log = get_logger()


class LostJobs:
    """One per process; `copies` None: jobs make none."""

    def __init__(self, backend: Backend, copies: JobCopies | None) -> None:
        self._backend = backend
        self._copies = copies

    async def end_of(self, job: Job, end: Observation) -> Observation:
        """An end that left nothing here may have left a copy."""
        if end.unpublished or end.exit_code == 0:
            return end
        try:
            copied = await self._is_copied(job)
        except BackendError as error:
            log.warning("job.copy_unknown", job_id=job.id, error=str(error))
            copied = True  # an attempt will tell; what is not unpublished is deleted some day
        return replace(end, unpublished=copied)

    async def host_lost(self, job: Job, *, here: str, now: datetime) -> Callable[[Job], Job]:
        """The step to take when the host of a job is gone; `here` is this replica's.

        Raises:
            BackendError: whether there is a copy cannot be asked now: whose the job is depends on that.
        """
        held = job.workload is not None and await self._is_copied(job)
        return partial(host_lost, now=now, rescuer=here if held else "")

    async def artifacts(self, job: Job) -> Sequence[Artifact]:
        """The files that a job has left, or those of its copy.

        Raises:
            FilesGone: it has none because they went with its host.
            BackendError: they are out of reach; the text says why.
        """
        assert job.workload is not None
        files: Sequence[Artifact] = []
        failure: BackendError | None = None
        try:
            files = await self._backend.artifacts(job.workload)
        except BackendError as error:
            failure = error
        lost = job.stop_reason is StopReason.LOST
        if not job.live and not files and (lost or failure is not None):
            if self._copies is not None and (copied := await self._copies.artifacts(job)):
                return copied
            if lost and failure is None and not _is_published(job):
                failure = FilesGone(self._why_gone(job))
        if failure is not None:
            raise failure
        return files

    def read(self, job: Job, file: Artifact, *, start: int) -> AsyncIterator[bytes]:
        """A file that `artifacts` has told."""
        assert job.workload is not None
        if self._copies is not None and file.version.startswith("copy-"):
            return self._copies.read(job, file.name, start=start)
        return self._backend.read_artifact(job.workload, file.name, start=start)

    async def logs(self, job: Job, *, tail_bytes: int | None = None) -> AsyncIterator[bytes]:
        """The job's log; of a lost one as far as it was copied, or a line that says why there is none."""
        assert job.workload is not None
        anything, out_of_reach = False, False
        try:
            async for chunk in self._backend.logs(job.workload, tail_bytes=tail_bytes):
                anything = anything or bool(chunk)
                yield chunk
        except BackendError:
            if anything or job.live:
                raise
            out_of_reach = True
        if anything or job.live or not (out_of_reach or job.stop_reason is StopReason.LOST):
            return
        wanted = [f"{result_of(job)}/{name}" for name in LOG_NAMES]
        try:
            found = {file.name: file for file in await self.artifacts(job)}
        except BackendError as error:
            yield _line(str(error))
            return
        for name in wanted:
            if name in found:
                size = found[name].size_bytes
                start = max(size - tail_bytes, 0) if tail_bytes is not None else 0
                async for chunk in self.read(job, found[name], start=start):
                    yield chunk
                return
        yield _line("it was where the job ran, and is gone with that, or cannot be reached")

    async def erase(self, job: Job) -> None:
        """Remove the files of its copy. Raises BackendError: its store is away."""
        if self._copies is not None:
            await self._copies.erase(job)

    async def forget(self, job: Job) -> None:
        """Remove whatever is left of its copy. Raises BackendError: its store is away."""
        if self._copies is not None:
            await self._copies.remove(job)

    async def _is_copied(self, job: Job) -> bool:
        """Raises BackendError."""
        return self._copies is not None and await self._copies.hold_result(job)

    def _why_gone(self, job: Job) -> str:
        advice = _ADVICE if self._copies is None else "and there is no copy of them"
        return (
            f"the files of job {job.id} are gone with the place where it ran, and with them what it had not "
            f"published: {advice}"
        )


def _is_published(job: Job) -> bool:
    """Lost, and finished afterwards: nothing is left because nothing needs to be."""
    copied = job.outbox is not None and job.outbox.copied
    return not job.unpublished and (copied or job.published_at is not None)


def _line(reason: str) -> bytes:
    return json.dumps({"event": "log.lost", "reason": reason}).encode() + b"\n"
