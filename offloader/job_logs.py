"""A job's log as clients read it: from its backend or its copy; of a job that failed, with a last line that
says how and what to do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from foundation.clock import rfc3339
from foundation.logs import get_logger
from offloader.backends.base import Backend
from offloader.backends.environment import job_environment
from offloader.errors import BackendError, StoreError
from offloader.failure_log import newest_error
from offloader.failures import failure_line, failure_of
from offloader.lost_jobs import LostJobs
from offloader.models import Job
from offloader.store.base import JobStore

_TAIL_BYTES: Final = 16 * 1024

log = get_logger()


class JobLogs:
    """One per service."""

    def __init__(self, *, store: JobStore, backend: Backend, lost: LostJobs) -> None:
        self._store = store
        self._backend = backend
        self._lost = lost

    def so_far(self, job: Job) -> AsyncIterator[bytes]:
        """What there is now."""
        chunks = _nothing() if job.workload is None else self._lost.logs(job)
        return self._with_failure(job, chunks)

    def follow(self, job: Job) -> AsyncIterator[bytes]:
        """From its beginning and on, until the job has ended."""
        chunks = _nothing() if job.workload is None else self._backend.follow(job.workload)
        return self._with_failure(job, chunks)

    async def last_lines(self, job: Job, *, count: int) -> Sequence[str]:
        """The newest lines; none when they cannot be had."""
        if job.workload is None:
            return []
        try:
            chunks = self._lost.logs(job, tail_bytes=_TAIL_BYTES)
            tail = b"".join([chunk async for chunk in chunks])
        except BackendError as error:
            log.warning("job.log_unreadable", job_id=job.id, error=str(error))
            return []
        lines = tail.decode(errors="replace").splitlines()
        if len(tail) >= _TAIL_BYTES:
            del lines[0]  # its beginning is cut off
        return lines[-count:]

    async def _with_failure(self, job: Job, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        tail = b""
        if line := _dropped_line(job):
            yield line
        async for chunk in chunks:
            tail = (tail + chunk)[-_TAIL_BYTES:]
            yield chunk
        if job.live:  # it may have ended since
            with contextlib.suppress(StoreError):  # the log itself is complete
                job = await self._store.get(job.id) or job
        failure = failure_of(job, said=newest_error(tail))
        if failure is not None:
            yield (b"\n" if tail and not tail.endswith(b"\n") else b"") + failure_line(failure, job)


def _dropped_line(job: Job) -> bytes:
    """What of its input the job did not get, in the form of its own lines; mostly nothing."""
    environment = job_environment(job.spec.input_data)
    if not environment.dropped:
        return b""
    line = {"event": "input.dropped", "level": "warning", "time": rfc3339(job.created_at)}
    return json.dumps({**line, **environment.dropped_fields}).encode() + b"\n"


async def _nothing() -> AsyncIterator[bytes]:
    """The log of a job that was never launched."""
    return
    yield b""
