"""Several services on one database: each job has one of them, and its end is noticed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from foundation.clock import ManualClock
from offloader.backends.base import LaunchRequest
from offloader.backends.stub import StubBackend
from offloader.lifecycle import launched
from offloader.models import Job, JobSpec, JobState, JobType, StopReason
from offloader.outbox import NoTokens, Outbox
from offloader.settings import load_settings
from offloader.store.base import HOST_LOST_AFTER_S, Lease
from offloader.store.memory import MemoryJobStore
from offloader.supervisor import Supervisor


class Replicas:
    """Supervisors over one store, one clock and one backend, or one of its own each."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.store = MemoryJobStore(clock=self.clock)
        self._settings = load_settings(directory / "none.toml", {"JOBS_APITYPE": "process"}).jobs

    def start(self, owner: str, backend: StubBackend, *, host: str = "") -> Supervisor:
        outbox = Outbox(
            store=self.store,
            backend=backend,
            tokens=NoTokens(),
            clock=self.clock,
            max_age=timedelta(days=14),
            slots=1,
        )

        async def forget(job: Job) -> None:
            await self.store.delete(job.id)

        return Supervisor(
            settings=self._settings,
            store=self.store,
            backend=backend,
            clock=self.clock,
            stop_grace_s=300,
            forget=forget,
            outbox=outbox,
            lease=Lease(owner, host=host),
        )

    async def job(
        self, number: int, *, owner: str, host: str = "", backend: StubBackend | None = None
    ) -> Job:
        """Reserved by `owner`, and launched where a backend is given."""
        spec = JobSpec(JobType.RECORDING, "runner", 3600, {})
        job = Job(f"{number:012x}", "client", spec, self.clock.utc_now())
        await self.store.reserve(job, admits=lambda *_: True, lease=Lease(owner, host=host))
        if backend is not None:
            workload = await backend.launch(_request(job))
            await self.store.change(job.id, lambda job: launched(job, workload=workload))
        return job

    async def stored(self, job: Job) -> Job:
        found = await self.store.get(job.id)
        assert found is not None
        return found


def _request(job: Job) -> LaunchRequest:
    return LaunchRequest(job.id, job.spec.type, job.spec.runner, {})


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    return Replicas(tmp_path)


async def test_a_job_is_looked_at_by_its_owner_only(replicas: Replicas) -> None:
    backend = StubBackend()
    one, two = replicas.start("one", backend), replicas.start("two", backend)
    job = await replicas.job(1, owner="one", backend=backend)
    backend.exit(job.id)
    await two.check()
    assert (await replicas.stored(job)).live
    await one.check()
    assert (await replicas.stored(job)).stop_reason is StopReason.COMPLETED


async def test_a_survivor_takes_over_within_15_s_and_keeps_the_deadline(
    replicas: Replicas,
) -> None:
    backend = StubBackend()
    two = replicas.start("two", backend)
    job = await replicas.job(1, owner="one", backend=backend)
    for _ in range(14):
        replicas.clock.advance(seconds=1)
        await two.check()
    assert (await replicas.stored(job)).state is JobState.RUNNING, "it has looked"
    replicas.clock.advance(seconds=3600 - 14)
    await two.check()
    assert (await replicas.stored(job)).stop_reason is StopReason.MAX_DURATION


async def test_a_launch_that_the_lost_replica_did_not_store_is_found(replicas: Replicas) -> None:
    backend = StubBackend()
    two = replicas.start("two", backend)
    found = await replicas.job(1, owner="one")
    await backend.launch(_request(found))
    gone = await replicas.job(2, owner="one")
    replicas.clock.advance(seconds=13)
    await two.check()
    assert (await replicas.stored(found)).state in (JobState.STARTING, JobState.RUNNING)
    assert (await replicas.stored(gone)).stop_reason is StopReason.START_FAILED


async def test_a_launch_under_way_elsewhere_is_left_alone_by_a_start(replicas: Replicas) -> None:
    backend = StubBackend()
    job = await replicas.job(1, owner="one")
    two = replicas.start("two", backend)
    await two.recover()
    await two.check()
    assert (await replicas.stored(job)).state is JobState.PENDING


async def test_a_job_of_a_lost_host_is_lost_and_its_files_wait_there(replicas: Replicas) -> None:
    here, there = StubBackend(), StubBackend()
    job = await replicas.job(1, owner="one", host="here", backend=here)
    pending = await replicas.job(2, owner="one", host="here")
    two = replicas.start("two", there, host="there")
    replicas.clock.advance(seconds=12 + HOST_LOST_AFTER_S - 1)
    await two.check()
    assert (await replicas.stored(job)).live
    replicas.clock.advance(seconds=1)
    await two.check()
    lost = await replicas.stored(job)
    assert (lost.state, lost.stop_reason) == (JobState.FINISHED, StopReason.LOST)
    assert lost.unpublished
    assert "its host here is gone" in lost.detail
    assert (await replicas.stored(pending)).stop_reason is StopReason.LOST
    replicas.clock.advance(seconds=86400)
    await two.check()
    assert (await replicas.stored(job)).outbox is None, "nobody else tries"
    again = replicas.start("three", here, host="here")
    await again.check()
    assert (await replicas.stored(job)).outbox is not None


async def test_a_host_that_comes_back_in_time_keeps_its_jobs(replicas: Replicas) -> None:
    here, there = StubBackend(), StubBackend()
    job = await replicas.job(1, owner="one", host="here", backend=here)
    two = replicas.start("two", there, host="there")
    replicas.clock.advance(seconds=30)
    await two.check()
    again = replicas.start("three", here, host="here")
    await again.recover()
    await again.check()
    assert (await replicas.stored(job)).state is JobState.RUNNING


async def test_a_drain_ends_the_own_jobs_and_takes_no_others(replicas: Replicas) -> None:
    backend = StubBackend()
    one = replicas.start("one", backend)
    own = await replicas.job(1, owner="one", backend=backend)
    other = await replicas.job(2, owner="two", backend=backend)
    draining = asyncio.create_task(one.drain(hurry=asyncio.Event()))
    while not backend.stopped:
        await asyncio.sleep(0.001)
    replicas.clock.advance(seconds=20)
    backend.exit(own.id)
    await one.check()
    await draining
    assert [job_id for job_id, _ in backend.stopped] == [own.id]
    assert (await replicas.stored(other)).live


async def test_a_result_is_retried_by_one_replica_only(replicas: Replicas) -> None:
    backend = StubBackend()
    one, two = replicas.start("one", backend), replicas.start("two", backend)
    job = await replicas.job(1, owner="one", backend=backend)
    backend.exit(job.id, 0, unpublished=True)
    await one.check()
    await one.check()
    await two.check()
    first = await replicas.stored(job)
    assert first.outbox is not None
    for _ in range(8):
        replicas.clock.advance(seconds=5)
        await one.check()
        await two.check()
    after = await replicas.stored(job)
    assert after.outbox is not None
    assert after.outbox.attempts == 1
