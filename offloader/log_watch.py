"""What the supervisor takes from live jobs' logs: figures, that they are in their call, that it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from foundation.logs import get_logger
from offloader.backends.base import Backend
from offloader.figures import (
    TAIL_BYTES,
    joined_after_s,
    newest_figures,
    tells_that_the_call_is_over,
)
from offloader.lifecycle import call_over
from offloader.models import Job
from offloader.store.base import JobStore

log = get_logger()


class LogWatch:
    """One per supervisor."""

    def __init__(self, *, backend: Backend, store: JobStore, room_made: Callable[[], None]) -> None:
        """`room_made`: called when a job has given up its place because its call is over."""
        self._backend = backend
        self._store = store
        self._room_made = room_made
        self._figures: dict[str, Mapping[str, float]] = {}
        self._on_joined: list[Callable[[Job, float], None]] = []

    @property
    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """The newest metrics of every live job that has reported any, by job ID."""
        return self._figures

    def on_joined(self, observer: Callable[[Job, float], None]) -> None:
        """Call `observer` with each job that has said that it is in its call, and the seconds from its start
        until then; as often as that is read in its log."""
        self._on_joined.append(observer)

    def forget(self, job_id: str) -> None:
        """The job has ended."""
        self._figures.pop(job_id, None)

    async def read(self, job: Job, *, ended: bool) -> bytes:
        """Take from its log what there is for us; returns what was read, the log's end.

        Raises:
            BackendError: the log cannot be had, or the job's place not be given up.
        """
        assert job.workload is not None
        tail = b"".join(
            [chunk async for chunk in self._backend.logs(job.workload, tail_bytes=TAIL_BYTES)]
        )
        figures = newest_figures(tail)
        if figures is not None:
            self._figures[job.id] = figures
        joined_s = joined_after_s(tail)
        if joined_s is not None:
            for observer in self._on_joined:
                observer(job, joined_s)
        if not job.post_call and tells_that_the_call_is_over(tail):
            if not ended:
                # First, so that one that fails is tried again: it gives up the place on the job's host.
                await self._backend.lower(job.workload)
            await self._store.change(job.id, call_over)
            log.info("job.call_over", job_id=job.id, type=job.spec.type.value)
            self._room_made()
        return tail
