"""Every metric of the job service, in one place (Prometheus, prefix `calls_offloader_`).

No label names a client, a user, a call or a job: what jobs report is added up by type.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foundation.clock import Clock
from offloader.condition import Capacity, Condition
from offloader.models import LIVE_STATES, Job, JobState, JobType, StopReason
from offloader.store.base import JobStore

Figures = Mapping[str, Mapping[str, float]]
"""What live jobs last reported, by job ID."""


_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
_STAGES = {
    (JobState.PENDING, JobState.STARTING): "launch",
    (JobState.STARTING, JobState.RUNNING): "start",
}


class ServiceMetrics:
    """Counts what happens and, when asked, looks at what is."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(
        self,
        *,
        store: JobStore,
        figures: Callable[[], Figures],
        condition: Condition,
        clock: Clock,
        backend_failures: Mapping[str, int],
        outbox_age: Callable[[], Awaitable[timedelta]] | None = None,
        certificate_end: Callable[[], datetime | None] | None = None,
    ) -> None:
        """`outbox_age`: of the oldest result that is still tried. `certificate_end`: None: no TLS."""
        self._store = store
        self._figures = figures
        self._backend_failures = backend_failures
        self._condition = condition
        self._clock = clock
        self._outbox_age = outbox_age
        self._certificate_end = certificate_end
        self._finished: Counter[tuple[JobType, StopReason]] = Counter()
        self._began_ns: dict[str, int] = {}
        """When live jobs that are coming up got to where they are, by job ID."""
        self._counted = CollectorRegistry()
        self._requests = Histogram(
            "calls_offloader_http_request_seconds",
            "From the head of a request to the end of its answer.",
            ("method", "route", "status"),
            buckets=_REQUEST_BUCKETS,
            registry=self._counted,
        )
        self._waits = Histogram(
            "calls_offloader_admission_wait_seconds",
            "How long jobs waited for a place.",
            ("admitted",),
            buckets=_WAIT_BUCKETS,
            registry=self._counted,
        )
        self._start_up = Histogram(
            "calls_offloader_job_start_seconds",
            "A start by stage: launch (until the backend has it), start (until its process is seen).",
            ("type", "stage"),
            buckets=_WAIT_BUCKETS,
            registry=self._counted,
        )
        self._events_dropped = prometheus_client.Counter(
            "calls_offloader_events_dropped",
            "Events that listeners were too slow for.",
            registry=self._counted,
        )

    def job_changed(self, before: Job | None, after: Job) -> None:
        """An observer of the store."""
        now_ns = self._clock.monotonic_ns()
        if before is None:
            self._began_ns[after.id] = now_ns
            return
        if before.state is after.state:
            return
        began_ns = self._began_ns.pop(after.id, None)
        stage = _STAGES.get((before.state, after.state))
        if stage and began_ns is not None:
            seconds = (now_ns - began_ns) / 1e9
            self._start_up.labels(after.spec.type.value, stage).observe(seconds)
        if after.state is JobState.STARTING:
            self._began_ns[after.id] = now_ns

    def job_finished(self, job: Job) -> None:
        """Count one job that has finished."""
        if job.stop_reason is not None:
            self._finished[job.spec.type, job.stop_reason] += 1

    def request_answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Of one HTTP request; `route` is a template, never a path."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def admission_waited(self, seconds: float, admitted: bool) -> None:
        """Of one job that asked for a place."""
        self._waits.labels(str(admitted).lower()).observe(seconds)

    def events_dropped(self, count: int) -> None:
        """Count events that a listener lost."""
        self._events_dropped.inc(count)

    async def render(self) -> bytes:
        """The text of `GET /metrics`."""
        live = await self._store.live()
        families = [
            self._finished_family(),
            *_job_families(live),
            *_capacity_families(await self._condition.capacity()),
            _figures_family(live, self._figures()),
            self._backend_family(),
        ]
        families += await self._outbox_families()
        end = await asyncio.to_thread(self._certificate_end) if self._certificate_end else None
        if end is not None:
            text = "When the TLS certificate of this service ends, seconds since the epoch."
            name = "calls_offloader_certificate_expiry_timestamp_seconds"
            families.append(_single(name, text, end.timestamp()))
        registry = CollectorRegistry()
        registry.register(_Ready(families))
        return generate_latest(registry) + generate_latest(self._counted)

    def _backend_family(self) -> Metric:
        text = "What the backend could not do."
        family = CounterMetricFamily("calls_offloader_backend_errors", text, labels=("operation",))
        for operation, count in sorted(self._backend_failures.items()):
            family.add_metric((operation,), count)
        return family

    async def _outbox_families(self) -> list[Metric]:
        waiting = await self._store.unpublished()
        text = "Results whose publication failed, given-up ones included."
        families = [_single("calls_offloader_unpublished_results", text, len(waiting))]
        if self._outbox_age is not None:
            age_s = (await self._outbox_age()).total_seconds()
            text = "How long the oldest result waits for its publication."
            families.append(_single("calls_offloader_outbox_oldest_age_seconds", text, age_s))
        return families

    def _finished_family(self) -> Metric:
        family = CounterMetricFamily(
            "calls_offloader_jobs_finished",
            "Jobs that finished since this process started.",
            labels=("type", "stop_reason"),
        )
        for job_type in JobType:
            for reason in StopReason:
                count = self._finished[job_type, reason]
                family.add_metric((job_type.value, reason.value), count)
        return family


def _job_families(live: Sequence[Job]) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "calls_offloader_jobs", "Jobs that have not finished.", labels=("type", "state")
    )
    counts = Counter((job.spec.type, job.state) for job in live)
    for job_type in JobType:
        for state in sorted(LIVE_STATES):
            family.add_metric((job_type.value, state.value), counts[job_type, state])
    yield family


def _capacity_families(now: Capacity) -> Iterator[Metric]:
    text = "Places in use: a recording and its transcription share one."
    yield _single("calls_offloader_calls_in_progress", text, now.calls_in_progress)
    yield _single("calls_offloader_max_concurrent_jobs", "The limit of the places.", now.limit)
    yield _single("calls_offloader_free_calls", "Places for further calls.", now.free)
    yield _single("calls_offloader_draining", "1: new jobs are refused.", now.draining)
    if now.free_disk_bytes is not None:
        text = "Room where jobs keep their files."
        yield _single("calls_offloader_free_disk_bytes", text, now.free_disk_bytes)


def _figures_family(live: Sequence[Job], figures: Figures) -> Metric:
    family = GaugeMetricFamily(
        "calls_offloader_job_figure",
        "What live jobs last reported, by figure: the sum and the largest over the jobs of a type.",
        labels=("type", "figure", "statistic"),
    )
    values: dict[tuple[str, str], list[float]] = {}
    for job in live:
        for figure, value in figures.get(job.id, {}).items():
            values.setdefault((job.spec.type.value, figure), []).append(value)
    for (job_type, figure), reported in sorted(values.items()):
        family.add_metric((job_type, figure, "sum"), sum(reported))
        family.add_metric((job_type, figure, "max"), max(reported))
    return family


def _single(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


class _Ready(Collector):
    """Families that were made already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families
