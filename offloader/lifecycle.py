"""What happens to a job, as pure steps from one `Job` to the next; `TRANSITIONS` guards each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from offloader.backends.base import Observation, Phase
from offloader.models import Job, JobState, StopReason, Workload


def launched(job: Job, *, workload: Workload) -> Job:
    """The backend has it."""
    return job.moved_to(JobState.STARTING, workload=workload)


def not_started(job: Job, *, detail: str, now: datetime) -> Job:
    """The backend could not start it."""
    return job.moved_to(
        JobState.FINISHED, stop_reason=StopReason.START_FAILED, stopped_at=now, detail=detail
    )


def told_to_stop(job: Job, *, reason: StopReason) -> Job:
    """It shall end; the first reason stays. A job that is ending or has ended is left as it is, but what
    transcribes its audio again ends too."""
    if job.retranscription is not None and job.retranscribing:
        return replace(job, retranscription=replace(job.retranscription, stop=True))
    if job.state not in (JobState.STARTING, JobState.RUNNING):
        return job
    return job.moved_to(JobState.STOPPING, stop_reason=reason)


def call_over(job: Job) -> Job:
    """It has left its call and only works off what it has recorded."""
    return replace(job, post_call=True) if job.live else job


def observed(
    job: Job, observation: Observation, *, figures: Mapping[str, float], now: datetime
) -> Job:
    """What the backend's evidence makes of a live job.

    The reason given when it was told to stop outlives a bad exit code; otherwise 0 is `completed`, any
    other code `crashed`, and no code at all means that it never ran.
    """
    if not job.live:
        return job
    match observation.phase:
        case Phase.STARTING:
            return job
        case Phase.RUNNING:
            job = replace(job, detail=observation.detail)
            return job.moved_to(JobState.RUNNING) if job.state is JobState.STARTING else job
        case Phase.LOST:
            reason = StopReason.LOST
        case _:
            reason = job.stop_reason or _reason_of_exit(observation.exit_code)
    stopped_at = observation.stopped_at or now
    published = observation.exit_code == 0 and not observation.unpublished
    return job.moved_to(
        JobState.FINISHED,
        stop_reason=reason,
        stopped_at=stopped_at,
        published_at=stopped_at if published else None,
        exit_code=observation.exit_code,
        detail=observation.detail,
        figures={**figures, **observation.usage},
        unpublished=observation.unpublished,
    )


def host_lost(job: Job, *, now: datetime, rescuer: str = "") -> Job:
    """Its host, or engine, is gone; what it recorded is there, and published when that comes back, or from
    its copy, by the replicas of the host `rescuer`."""
    if not job.live:
        return job
    where = "a copy of what it recorded is elsewhere" if rescuer else "what it recorded is there"
    return job.moved_to(
        JobState.FINISHED,
        stop_reason=StopReason.LOST,
        stopped_at=now,
        detail=f"its host {job.host} is gone; {where}",
        unpublished=job.workload is not None,
        host=rescuer or job.host,
    )


def _reason_of_exit(exit_code: int | None) -> StopReason:
    if exit_code is None:
        return StopReason.START_FAILED
    return StopReason.COMPLETED if exit_code == 0 else StopReason.CRASHED
