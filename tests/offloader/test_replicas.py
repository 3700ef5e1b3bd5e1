"""Several services on one database: each job has one of them, and its end is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from foundation.clock import ManualClock
from foundation.copies.stores import DirectoryStore
from offloader.backends.base import LaunchRequest
from offloader.backends.stub import StubBackend
from offloader.copies import JobCopies
from offloader.errors import BackendError, WorkloadBusy
from offloader.hosts import host_id, lease_of_this_process
from offloader.lifecycle import launched
from offloader.lost_jobs import LostJobs
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    Retranscription,
    RetranscriptionState,
    StopReason,
    Workload,
)
from offloader.outbox import Outbox
from offloader.outbox_tokens import NoTokens
from offloader.removal import Removal
from offloader.retranscription import Retranscriber
from offloader.settings import load_settings
from offloader.store.base import HOST_LOST_AFTER_S, Lease
from offloader.store.memory import MemoryJobStore, MemorySecretStore
from offloader.supervisor import Supervisor


class Replicas:
    """Supervisors over one store, one clock and one backend, or one of its own each."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.store = MemoryJobStore(clock=self.clock)
        self._settings = load_settings(directory / "none.toml", {"JOBS_APITYPE": "process"}).jobs

    def retranscriber(self, backend: StubBackend) -> Retranscriber:
        return Retranscriber(
            store=self.store,
            backend=backend,
            secrets=MemorySecretStore(),
            clock=self.clock,
            slots=1,
        )

    def start(
        self, owner: str, backend: StubBackend, *, host: str = "", copies: JobCopies | None = None
    ) -> Supervisor:
        outbox = Outbox(
            store=self.store,
            backend=backend,
            tokens=NoTokens(),
            clock=self.clock,
            max_age=timedelta(days=14),
            slots=1,
        )

        lost = LostJobs(backend, copies)
        lease = Lease(owner, host=host)
        removal = Removal(
            store=self.store, backend=backend, lost=lost, clock=self.clock, lease=lease
        )
        return Supervisor(
            settings=self._settings,
            store=self.store,
            backend=backend,
            clock=self.clock,
            stop_grace_s=300,
            removal=removal,
            outbox=outbox,
            lease=lease,
            retranscriber=self.retranscriber(backend),
            lost=lost,
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


async def test_an_unstored_launch_is_looked_for_until_the_backend_answers(
    replicas: Replicas,
) -> None:
    class Away(StubBackend):
        away = True

        async def adopt(self) -> Mapping[str, Workload]:
            if self.away:
                raise BackendError("the broker cannot be reached")
            return await super().adopt()

    backend = Away()
    two = replicas.start("two", backend)
    found = await replicas.job(1, owner="one")
    await backend.launch(_request(found))
    replicas.clock.advance(seconds=13)
    for _ in range(3):
        await two.check()
        replicas.clock.advance(seconds=1)
    assert (await replicas.stored(found)).state is JobState.PENDING
    backend.away = False
    await two.check()
    assert (await replicas.stored(found)).state in (JobState.STARTING, JobState.RUNNING)


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


async def test_services_share_what_their_backends_say_is_in_reach_of_both() -> None:
    leases = [await lease_of_this_process(StubBackend(lives_at=p)) for p in ("a", "a", "b")]
    assert [lease.host for lease in leases] == ["a", "a", "b"]
    assert len({lease.owner for lease in leases}) == 3
    assert {lease.directories for lease in leases} == {host_id()}


async def test_a_lost_host_s_job_waits_for_the_store_of_its_copy_and_holds_up_no_other(
    replicas: Replicas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = StubBackend(), StubBackend()
    job = await replicas.job(1, owner="one", host="here", backend=here)
    other = await replicas.job(2, owner="two", host="there", backend=there)
    copies = JobCopies(DirectoryStore(tmp_path))
    two = replicas.start("two", there, host="there", copies=copies)

    async def away(_copies: JobCopies, _job: Job) -> bool:
        raise BackendError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(JobCopies, "hold_result", away)
        replicas.clock.advance(seconds=12 + HOST_LOST_AFTER_S)
        there.exit(other.id, 0)
        await two.check()
    assert (await replicas.stored(job)).live
    assert not (await replicas.stored(other)).live
    await two.check()
    assert (await replicas.stored(job)).stop_reason is StopReason.LOST


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


async def again(replicas: Replicas, number: int, backend: StubBackend, host: str = "") -> Job:
    """A job that has ended, and whose audio is to be transcribed again."""
    job = await replicas.job(number, owner="one", host=host, backend=backend)
    backend.exit(job.id)
    await replicas.start("one", backend, host=host).check()
    wish = Retranscription("again-1", {}, publish=False, requested_at=replicas.clock.utc_now())
    return await replicas.store.change(
        job.id, lambda present: replace(present, retranscription=wish)
    )


async def state_of(replicas: Replicas, job: Job) -> RetranscriptionState:
    wish = (await replicas.stored(job)).retranscription
    assert wish is not None
    return wish.state


async def test_what_a_lost_host_transcribed_again_is_given_up_and_others_have_its_place(
    replicas: Replicas,
) -> None:
    here, there = StubBackend(), StubBackend()
    two = replicas.start("two", there, host="there")
    lost = await again(replicas, 1, here, "here")
    await replicas.start("one", here, host="here").check()
    assert await state_of(replicas, lost) is RetranscriptionState.RUNNING
    other = await again(replicas, 2, there, "there")
    await two.check()
    assert await state_of(replicas, other) is RetranscriptionState.WAITING, "the one place is taken"
    replicas.clock.advance(seconds=12 + HOST_LOST_AFTER_S)
    await two.check()
    assert await state_of(replicas, lost) is RetranscriptionState.FAILED
    assert "host here is gone" in (await replicas.stored(lost)).retranscription.detail
    await two.check()
    assert await state_of(replicas, other) is RetranscriptionState.RUNNING


async def test_a_run_whose_start_came_too_late_is_stopped_and_changes_nothing(
    replicas: Replicas,
) -> None:
    backend = StubBackend()
    job = await again(replicas, 1, backend)
    other = Workload("stub", {"id": "another-replicas"})

    class Slow(StubBackend):
        async def retranscribe(self, *given: Any, **named: Any) -> Workload:
            started = await backend.retranscribe(*given, **named)
            await replicas.store.change(job.id, partial(with_run, workload=other))
            return started

    slow = Slow(observations=backend.observations)
    await replicas.retranscriber(slow).check()
    after = await replicas.stored(job)
    assert after.retranscription is not None
    assert after.retranscription.workload == other
    assert slow.stopped == [(f"{job.id}/again-1", 10.0)]


async def test_an_end_that_was_seen_of_an_earlier_wish_does_not_end_the_next(
    replicas: Replicas,
) -> None:
    backend = StubBackend()
    job = await again(replicas, 1, backend)
    retranscriber = replicas.retranscriber(backend)
    await retranscriber.check()
    seen = await replicas.stored(job)
    backend.exit(f"{job.id}/again-1", 0)
    await retranscriber.check()
    replicas.clock.advance(seconds=1)
    wish = Retranscription("again-2", {}, publish=False, requested_at=replicas.clock.utc_now())
    await replicas.store.change(job.id, lambda present: replace(present, retranscription=wish))
    await retranscriber.check([seen])
    assert (await replicas.stored(job)).retranscription == wish


async def test_what_runs_already_or_cannot_be_asked_for_now_is_waited_for(
    replicas: Replicas,
) -> None:
    """A service that was killed between a start and its record leaves a run that nobody knows."""
    backend = StubBackend()
    job = await again(replicas, 1, backend)

    class Busy(StubBackend):
        async def retranscribe(self, *given: Any, **named: Any) -> Workload:
            raise WorkloadBusy("something works on its files still")

    retranscriber = replicas.retranscriber(Busy())
    with structlog.testing.capture_logs() as lines:
        for _ in range(61):
            await retranscriber.check()
            replicas.clock.advance(seconds=1)
    waits = [line for line in lines if line["event"] == "retranscription.waits"]
    assert len(waits) == 2, "once a minute"
    assert await state_of(replicas, job) is RetranscriptionState.WAITING
    await replicas.retranscriber(backend).check()
    assert await state_of(replicas, job) is RetranscriptionState.RUNNING


def with_run(job: Job, *, workload: Workload) -> Job:
    assert job.retranscription is not None
    running = replace(job.retranscription, state=RetranscriptionState.RUNNING, workload=workload)
    return replace(job, retranscription=running)


@pytest.mark.looptime
async def test_a_round_that_takes_long_loses_no_job_to_another_replica(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hangs(StubBackend):
        async def poll(self, workload: Workload) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr("offloader.supervisor._ROUND_WAITS_S", 3600.0)
    backend = Hangs()
    one, two = replicas.start("one", backend), replicas.start("two", StubBackend())
    await replicas.job(1, owner="one", backend=backend)
    launching = await replicas.job(2, owner="one")
    rounds = asyncio.create_task(one.run())
    for _ in range(30):
        await asyncio.sleep(1)
        replicas.clock.advance(seconds=1)
    await two.check()
    assert (await replicas.stored(launching)).state is JobState.PENDING
    rounds.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rounds


async def test_a_launch_that_is_stored_while_it_is_looked_for_stays_as_it_is(
    replicas: Replicas,
) -> None:
    backend = StubBackend()
    two = replicas.start("two", backend)
    first, second = [await replicas.job(number, owner="one") for number in (1, 2)]
    workload = await backend.launch(_request(first))
    get = replicas.store.get

    async def get_and_be_overtaken(job_id: str) -> Job | None:
        found = await get(job_id)
        if job_id == first.id:
            replicas.store.get = get  # type: ignore[method-assign]  # once
            await replicas.store.change(job_id, partial(launched, workload=workload))
        return found

    replicas.store.get = get_and_be_overtaken  # type: ignore[method-assign]  # a race, made sure of
    replicas.clock.advance(seconds=13)
    await two.check()
    assert (await replicas.stored(first)).state in (JobState.STARTING, JobState.RUNNING)
    assert (await replicas.stored(second)).stop_reason is StopReason.START_FAILED
