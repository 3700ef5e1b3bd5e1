"""What the service sees of a job after its start, as spans of the trace that began with `POST /jobs`.

A job carries its `traceparent` among its input, so that whichever replica sees the next change goes on with
the trace, also after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from foundation.clock import Clock
from foundation.newest import keep_newest
from foundation.spans import Attributes, Span, Tracing, traceparent_or_none
from offloader.models import Job, JobSpec, JobState, Publication, StopReason

INPUT_KEY: Final = "traceparent"
"""In `input_data`; the job finds it as TRACEPARENT (docs/job-contract.md)."""
_MOST_STAGES: Final = 16384
"""Under way at a time; of a job that another replica has taken over no end is seen here."""
_FAILURES: Final = frozenset({StopReason.CRASHED, StopReason.LOST, StopReason.START_FAILED})


def with_trace(input_data: Mapping[str, Any], span: Span) -> Mapping[str, Any]:
    """`input_data` of a job that is made within `span`; unchanged where nothing is traced."""
    if not span.traceparent:
        return input_data
    return {**_others(input_data), INPUT_KEY: span.traceparent}


def carrying_trace(job: Job, span: Span) -> Job:
    """`job` with the trace of `span` among its input."""
    return replace(job, spec=replace(job.spec, input_data=with_trace(job.spec.input_data, span)))


def untraced(spec: JobSpec) -> JobSpec:
    """What the client asked for, whatever trace it is part of."""
    return replace(spec, input_data=_others(spec.input_data))


class JobTraces:
    """An observer of the store. Knows live jobs and running attempts only; after a restart, a stage that was
    under way then has no span."""

    def __init__(self, tracing: Tracing, clock: Clock) -> None:
        self._tracing = tracing
        self._clock = clock
        self._began_ns: dict[tuple[str, str], int] = {}
        """When a stage of a job began, ns since the epoch, by job and stage."""

    def job_changed(self, before: Job | None, after: Job) -> None:
        """See `offloader.store.observed.Observer`."""
        if before is None:
            return
        if before.state is not after.state:
            self._moved(after)
        was, now = _publication(before), _publication(after)
        if was is not now and now is Publication.RUNNING:
            self._begins(after, "republish")
        elif was is not now and was is Publication.RUNNING:
            self._republished(after)

    def _moved(self, job: Job) -> None:
        if job.state is JobState.STARTING:
            self._begins(job, "start")
            return
        began_ns = self._began_ns.pop((job.id, "start"), None)
        if job.state is JobState.RUNNING and began_ns is not None:
            self._tell(job, "start", began_ns=began_ns)
        if job.state is JobState.FINISHED:
            reason = job.stop_reason
            attributes: dict[str, str | int | float | bool] = {
                "calls.stop_reason": reason.value if reason else "",
                "calls.unpublished": job.unpublished,
            }
            if job.exit_code is not None:
                attributes["process.exit.code"] = job.exit_code
            self._tell(
                job,
                "job",
                began_ns=_ns(job.created_at),
                ended_ns=_ns(job.stopped_at) if job.stopped_at else None,
                failure=reason.value if reason in _FAILURES else "",
                attributes=attributes,
            )

    def _begins(self, job: Job, stage: str) -> None:
        keep_newest(self._began_ns, (job.id, stage), self._now_ns(), most=_MOST_STAGES)

    def _republished(self, job: Job) -> None:
        began_ns = self._began_ns.pop((job.id, "republish"), None)
        if began_ns is None or job.outbox is None:
            return
        publication = job.outbox.publication
        self._tell(
            job,
            "republish",
            began_ns=began_ns,
            failure="" if publication is Publication.PUBLISHED else publication.value,
            attributes={
                "calls.attempts": job.outbox.attempts,
                "calls.rescue": job.outbox.copied,
            },
        )

    def _tell(
        self,
        job: Job,
        name: str,
        *,
        began_ns: int,
        ended_ns: int | None = None,
        failure: str = "",
        attributes: Attributes | None = None,
    ) -> None:
        traceparent = traceparent_or_none(job.spec.input_data.get(INPUT_KEY))
        if not traceparent:
            return  # made while nothing was traced
        known = {"calls.job.id": job.id, "calls.job.type": job.spec.type.value}
        span = self._tracing.begin(
            name,
            traceparent=traceparent,
            start_ns=began_ns,
            attributes={**known, **(attributes or {})},
        )
        if failure:
            span.failed(failure)
        span.end(at_ns=max(ended_ns or self._now_ns(), began_ns))

    def _now_ns(self) -> int:
        return _ns(self._clock.utc_now())


def _others(input_data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in input_data.items() if key.lower() != INPUT_KEY}


def _publication(job: Job) -> Publication | None:
    return job.outbox.publication if job.outbox else None


def _ns(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1000
