"""Every metric of the job service, in one place (Prometheus, prefix `calls_offloader_`).

No label names a client, a user, a call or a job: what jobs report is added up by type.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import prometheus_client
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foundation.clock import Clock
from offloader.condition import Capacity, Condition
from offloader.models import LIVE_STATES, Job, JobState, JobType, StopReason
from offloader.reload import Reloads
from offloader.reload_metrics import reload_families
from offloader.store.base import JobStore

Figures = Mapping[str, Mapping[str, float]]
"""What live jobs last reported, by job ID."""


_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
_LOSSES = (
    *("caption_lines_dropped", "caption_audio_dropped_s", "segments_failed", "speech_jobs_failed"),
    *("packets_dropped", "capture_write_errors", "ear_failures", "inbox_dropped"),
    *("audio_dropped_s", "picture_skipped_s", "mishaps", "copy_failures", "start_failed"),
)
"""Figures that count what a job could not do; each only grows while it lives."""
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
        spans_dropped: Callable[[], int] | None = None,
        audit_dropped: Callable[[], int] | None = None,
        unpublished_quota: Callable[[], int | None] | None = None,
        reloads: Reloads | None = None,
    ) -> None:
        """`outbox_age`: of the oldest result that is still tried. `certificate_end`: None: no TLS.
        `spans_dropped`: None: nothing is traced. `audit_dropped`: None: there is no audit.
        `unpublished_quota`: bytes of results that may wait to be published; None: any."""
        self._unpublished_quota = unpublished_quota
        self._more: list[Callable[[], Awaitable[Sequence[Metric]]]] = []
        self._audit_dropped = audit_dropped
        self._reloads = reloads
        self._spans_dropped = spans_dropped
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
        self._lost: defaultdict[tuple[JobType, str], float] = defaultdict(float)
        self._lost_before: dict[str, Mapping[str, float]] = {}
        """What has been counted of live jobs already, by job ID."""
        self._not_joined: set[str] = set()
        """Live jobs that this process has admitted and that have not said yet that they are in their call."""
        self._counted = CollectorRegistry()
        prometheus_client.ProcessCollector(namespace="calls_offloader", registry=self._counted)
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
            "A start by stage: launch (until the backend has it), start (until its process is seen), "
            "joined (from the start of its process until it was in its call, as it says itself).",
            ("type", "stage"),
            buckets=_WAIT_BUCKETS,
            registry=self._counted,
        )
        # All there can be from the start, as 0: a rise from nothing is none to who watches.
        for admitted in ("true", "false"):
            self._waits.labels(admitted)
        for job_type in JobType:
            for stage in (*_STAGES.values(), "joined"):
                self._start_up.labels(job_type.value, stage)
        self._events_dropped = prometheus_client.Counter(
            "calls_offloader_events_dropped",
            "Events that listeners were too slow for.",
            registry=self._counted,
        )
        self._notifications_lost = prometheus_client.Counter(
            "calls_offloader_notifications_lost",
            "Lines to the admins' channel that did not arrive.",
            registry=self._counted,
        )

    def job_changed(self, before: Job | None, after: Job) -> None:
        """An observer of the store."""
        now_ns = self._clock.monotonic_ns()
        if before is None:
            self._began_ns[after.id] = now_ns
            self._not_joined.add(after.id)
            self._lost_before[after.id] = {}
            return
        if before.state is after.state:
            return
        if not after.live:
            self._not_joined.discard(after.id)
            self._count_losses(after, after.figures)
            self._lost_before.pop(after.id, None)
            if after.stop_reason is not None:
                self._finished[after.spec.type, after.stop_reason] += 1
        began_ns = self._began_ns.pop(after.id, None)
        stage = _STAGES.get((before.state, after.state))
        if stage and began_ns is not None:
            seconds = (now_ns - began_ns) / 1e9
            self._start_up.labels(after.spec.type.value, stage).observe(seconds)
        if after.state is JobState.STARTING:
            self._began_ns[after.id] = now_ns

    def job_joined(self, job: Job, seconds: float) -> None:
        """Of a job that has said so, `seconds` after its start; once, and only if it was admitted here."""
        if job.id in self._not_joined:
            self._not_joined.discard(job.id)
            self._start_up.labels(job.spec.type.value, "joined").observe(seconds)

    def request_answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Of one HTTP request; `route` is a template, never a path."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def admission_waited(self, seconds: float, admitted: bool) -> None:
        """Of one job that asked for a place."""
        self._waits.labels(str(admitted).lower()).observe(seconds)

    def notification_lost(self) -> None:
        """A line to the admins' channel did not arrive."""
        self._notifications_lost.inc()

    def add(self, families: Callable[[], Awaitable[Sequence[Metric]]]) -> None:
        """Ask for these, too, with every look."""
        self._more.append(families)

    def events_dropped(self, count: int) -> None:
        """Count events that a listener lost."""
        self._events_dropped.inc(count)

    async def render(self) -> bytes:
        """The text of `GET /metrics`."""
        live = await self._store.live()
        figures = self._figures()
        for job in live:
            self._count_losses(job, figures.get(job.id, {}))
        capacity, backend_fault, workers = await asyncio.gather(
            self._condition.capacity(), self._condition.backend_fault(), self._condition.workers()
        )
        text = "1: the backend could start a job now."
        families = [
            self._finished_family(),
            *_job_families(live),
            *_capacity_families(capacity),
            _figures_family(live, figures),
            self._losses_family(),
            _single("calls_offloader_backend_up", text, not backend_fault),
            self._backend_family(),
            _workers_family(workers),
        ]
        families += await self._outbox_families()
        end = await asyncio.to_thread(self._certificate_end) if self._certificate_end else None
        if end is not None:
            text = "When the TLS certificate of this service ends, seconds since the epoch."
            name = "calls_offloader_certificate_expiry_timestamp_seconds"
            families.append(_single(name, text, end.timestamp()))
        dropped = self._spans_dropped() if self._spans_dropped else 0
        name, text = "calls_offloader_trace_spans_dropped", "Spans that the collector did not get."
        families.append(CounterMetricFamily(name, text, value=dropped))
        dropped = self._audit_dropped() if self._audit_dropped else 0
        name, text = "calls_offloader_audit_records_dropped", "Records that the audit lost."
        families.append(CounterMetricFamily(name, text, value=dropped))
        families += reload_families(self._reloads) if self._reloads else []
        for more in self._more:
            families += await more()
        registry = CollectorRegistry()
        registry.register(_Ready(families))
        return generate_latest(registry) + generate_latest(self._counted)

    def _count_losses(self, job: Job, figures: Mapping[str, float]) -> None:
        """What is new since the last look. Of a job that an earlier process has admitted, what it had lost by
        the first look was counted there."""
        now = {figure: figures[figure] for figure in _LOSSES if figure in figures}
        before = self._lost_before.get(job.id, now)
        for figure, value in now.items():
            self._lost[job.spec.type, figure] += max(value - before.get(figure, 0), 0)
        if now:
            self._lost_before[job.id] = now

    def _losses_family(self) -> Metric:
        family = CounterMetricFamily(
            "calls_offloader_job_losses",
            "What jobs could not do, by the figure in which they count it.",
            labels=("type", "figure"),
        )
        for job_type in JobType:
            for figure in _LOSSES:
                family.add_metric((job_type.value, figure), self._lost[job_type, figure])
        return family

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
        text = "Size of all results that are not published."
        size = await self._store.unpublished_bytes()
        families.append(_single("calls_offloader_unpublished_bytes", text, size))
        quota = self._unpublished_quota() if self._unpublished_quota else None
        if quota is not None:
            text = "With so much unpublished no further call is recorded."
            name = "calls_offloader_unpublished_quota_bytes"
            families.append(_single(name, text, quota))
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
        text = "Room where jobs keep their files, of all hosts together."
        yield _single("calls_offloader_free_disk_bytes", text, now.free_disk_bytes)
    if now.tightest_disk_bytes is not None:
        text = "Room on that host of jobs which has least."
        yield _single("calls_offloader_least_disk_bytes", text, now.tightest_disk_bytes)
    if now.min_free_disk_bytes is not None:
        text = "With less room than this no recording is started."
        yield _single("calls_offloader_min_free_disk_bytes", text, now.min_free_disk_bytes)


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


def _workers_family(workers: Mapping[str, bool]) -> Metric:
    family = GaugeMetricFamily(
        "calls_offloader_worker_up", "1: the worker can be reached.", labels=("worker",)
    )
    for name, there in sorted(workers.items()):
        family.add_metric((name,), there)
    return family


def _single(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)


class _Ready(Collector):
    """Families that were made already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families
