"""Every metric of the job service, in one place (Prometheus, prefix `calls_offloader_`).

No label names a client, a user, a call or a job: what jobs report is added up by type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from offloader.admission import AdmissionPolicy, calls_in_progress
from offloader.models import LIVE_STATES, Job, JobType, StopReason
from offloader.store.base import JobStore

Figures = Mapping[str, Mapping[str, float]]
"""What live jobs last reported, by job ID."""


class ServiceMetrics:
    """Counts what happens and, when asked, looks at what is."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(
        self, *, store: JobStore, figures: Callable[[], Figures], policy: AdmissionPolicy
    ) -> None:
        self._store = store
        self._figures = figures
        self._policy = policy
        self._finished: Counter[tuple[JobType, StopReason]] = Counter()

    def job_finished(self, job: Job) -> None:
        """Count one job that has finished."""
        if job.stop_reason is not None:
            self._finished[job.spec.type, job.stop_reason] += 1

    async def render(self) -> bytes:
        """The text of `GET /metrics`."""
        live = await self._store.live()
        families = [
            self._finished_family(),
            *_job_families(live, self._policy),
            _single("calls_offloader_max_concurrent_jobs", "Its limit.", self._policy.max_calls),
            _figures_family(live, self._figures()),
        ]
        registry = CollectorRegistry()
        registry.register(_Ready(families))
        return generate_latest(registry)

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


def _job_families(live: Sequence[Job], policy: AdmissionPolicy) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "calls_offloader_jobs", "Jobs that have not finished.", labels=("type", "state")
    )
    counts = Counter((job.spec.type, job.state) for job in live)
    for job_type in JobType:
        for state in sorted(LIVE_STATES):
            family.add_metric((job_type.value, state.value), counts[job_type, state])
    yield family
    text = "Places in use: a recording and its transcription share one."
    in_progress = calls_in_progress(live, post_call_slots=policy.post_call_slots)
    yield _single("calls_offloader_calls_in_progress", text, in_progress)


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
