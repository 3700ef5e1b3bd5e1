"""What one client may take of what all share (`jobs.client_limits`). Pure. The admin's jobs have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from offloader.admission import calls_in_progress, writing_bytes_per_s
from offloader.errors import ClientDiskFull, ClientIsFull
from offloader.models import Job, JobType


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Of each client by itself; None: no limit."""

    slots: int | None = None
    """Calls at a time."""
    queue: int | None = None
    """Jobs that wait for a place."""
    disk_bytes: int | None = None
    """What its live jobs may still write, by their bit rates."""
    event_streams: int | None = None
    """Streams of `GET /events` at a time."""

    def check_slots(self, live: Sequence[Job], job: Job, *, post_call_slots: int) -> None:
        """Raises ClientIsFull: `job` would need one more place than its client may have."""
        if self.slots is None or not job.client_id:
            return
        own = _own(live, job)
        now = calls_in_progress(own, post_call_slots=post_call_slots)
        then = calls_in_progress([*own, job], post_call_slots=post_call_slots)
        if then > self.slots and then != now:
            raise ClientIsFull(
                f"this client has {now} calls in progress, as many as it may (jobs.client_limits.slots)"
            )

    def check_queue(self, waiting: int, job: Job) -> None:
        """Raises ClientIsFull: so many jobs of its client wait that `job` may not."""
        if self.queue is not None and job.client_id and waiting >= self.queue:
            raise ClientIsFull(
                f"{waiting} jobs of this client wait already (jobs.client_limits.queue)"
            )

    def check_disk(self, live: Sequence[Job], job: Job, *, now: datetime) -> None:
        """Raises ClientDiskFull: with `job` its client's jobs could write more than they may."""
        if self.disk_bytes is None or not job.client_id:
            return
        own = _own(live, job)
        if _is_transcript_of(own, job):  # refused, it would leave half a pair behind
            return
        reserved = sum(_still_to_write_bytes(other, now) for other in own)
        wanted = _still_to_write_bytes(job, now)
        if reserved + wanted > self.disk_bytes:
            raise ClientDiskFull(
                reserved_bytes=reserved, wanted_bytes=wanted, most_bytes=self.disk_bytes
            )


def _own(live: Sequence[Job], job: Job) -> list[Job]:
    return [other for other in live if other.client_id == job.client_id]


def _is_transcript_of(own: Sequence[Job], job: Job) -> bool:
    """Does it transcribe a call that is being recorded? What it writes is little (calls-plugin.md 6.7)."""
    wanted = job.call_key, JobType.RECORDING
    return job.spec.type is JobType.TRANSCRIBING and any(
        (other.call_key, other.spec.type) == wanted for other in own
    )


def _still_to_write_bytes(job: Job, now: datetime) -> int:
    if job.post_call:
        return 0
    left_s = max((job.deadline_at - now).total_seconds(), 0.0)
    return round(writing_bytes_per_s(job.spec.type, job.spec.input_data) * left_s)
