"""Workloads of no job go when they are of no use to anybody, and never with a result in them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from foundation.clock import ManualClock
from offloader.backends.base import LaunchRequest, Observation, Phase
from offloader.backends.stub import StubBackend
from offloader.models import Job, JobSpec, JobType
from offloader.orphans import sweep_orphans
from offloader.store.memory import MemoryJobStore

KEPT = timedelta(days=30)
NOW = ManualClock().utc_now()
LONG_AGO = NOW - timedelta(days=31)


@pytest.fixture
async def backend() -> StubBackend:
    backend = StubBackend()
    await backend.launch(LaunchRequest("orphan", JobType.RECORDING, "r", {}))
    return backend


async def sweep(
    backend: StubBackend, store: MemoryJobStore | None = None, *, kept: timedelta | None = KEPT
) -> int:
    return await sweep_orphans(
        backend=backend, store=store or MemoryJobStore(), kept_for=kept, now=NOW
    )


async def test_an_old_one_without_a_result_is_removed(backend: StubBackend) -> None:
    backend.exit("orphan", 0, stopped_at=LONG_AGO)
    assert await sweep(backend) == 0
    assert backend.removed == ["orphan"]


@pytest.mark.parametrize(
    ("observation", "kept"),
    [
        (Observation(Phase.RUNNING), KEPT),
        (Observation(Phase.EXITED, 1, stopped_at=LONG_AGO, unpublished=True), KEPT),
        (Observation(Phase.LOST, unpublished=True), KEPT),
        (Observation(Phase.EXITED, 0, stopped_at=NOW - timedelta(days=29)), KEPT),
        (Observation(Phase.EXITED, 0, stopped_at=LONG_AGO), None),
    ],
    ids=["running", "unpublished", "lost with a result", "young", "kept for ever"],
)
async def test_others_stay(
    backend: StubBackend, observation: Observation, kept: timedelta | None
) -> None:
    backend.observations["orphan"] = observation
    assert await sweep(backend, kept=kept) == 1
    assert backend.removed == []


async def test_the_workload_of_a_job_is_no_orphan(backend: StubBackend) -> None:
    backend.exit("orphan", 0, stopped_at=LONG_AGO)
    store = MemoryJobStore()
    spec = JobSpec(JobType.RECORDING, "r", 60, {})
    await store.reserve(Job("orphan", "ann", spec, NOW), admits=lambda *_: True)
    assert await sweep(backend, store) == 0
    assert backend.removed == []


async def test_one_that_cannot_be_removed_does_not_hide_the_others(backend: StubBackend) -> None:
    await backend.launch(LaunchRequest("second", JobType.RECORDING, "r", {}))
    backend.observations["orphan"] = Observation(Phase.STARTING)
    backend.exit("second", 0, stopped_at=LONG_AGO)
    assert await sweep(backend) == 1
    assert backend.removed == ["second"]
