"""A repeated wish gets the first answer, whoever repeats it and when."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from foundation.clock import ManualClock
from offloader.errors import CapacityReached, IdempotencyMismatch
from offloader.idempotency import Repeats
from offloader.models import Job, JobSpec, JobState, JobType, StopReason
from offloader.store.memory import MemoryAnswerStore, MemoryJobStore

SPEC = JobSpec(JobType.RECORDING, "r", 60, {"call_id": "c", "auth_token": "***"})


def job(job_id: str, client: str = "plugin", spec: JobSpec = SPEC) -> Job:
    return Job(job_id, client, spec, datetime(2026, 1, 1, tzinfo=UTC))


class Replica:
    """One process in front of stores that several share."""

    def __init__(self, jobs: MemoryJobStore, answers: MemoryAnswerStore) -> None:
        self.jobs = jobs
        self.repeats = Repeats(answers=answers, jobs=jobs)
        self.created: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.refuse: Exception | None = None

    async def ask(self, wanted: Job, key: str = "key") -> Job:
        async def create() -> Job:
            self.created.append(wanted.id)
            await self.go.wait()
            if self.refuse:
                raise self.refuse
            await self.jobs.reserve(wanted, admits=lambda _live, _job: True)
            return await self.jobs.change(
                wanted.id, lambda present: replace(present, state=JobState.STARTING)
            )

        return await self.repeats.once(key, wanted, create)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def replicas(clock: ManualClock) -> tuple[Replica, Replica]:
    jobs, answers = MemoryJobStore(), MemoryAnswerStore(clock=clock)
    return Replica(jobs, answers), Replica(jobs, answers)


@pytest.mark.parametrize("other", [0, 1])
async def test_a_repeat_gets_the_first_job_on_whichever_replica(replicas, other: int) -> None:
    first = await replicas[0].ask(job("a"))
    again = await replicas[other].ask(job("b"))
    assert first == again
    assert replicas[0].created + replicas[1].created == ["a"]


async def test_the_answer_stays_the_first_one_when_the_job_has_ended(replicas) -> None:
    first = await replicas[0].ask(job("a"))
    now = datetime(2026, 1, 2, tzinfo=UTC)
    await replicas[0].jobs.change(
        "a", lambda present: replace(present, state=JobState.FINISHED, stopped_at=now)
    )
    again = await replicas[1].ask(job("b"))
    assert (again.id, again.stopped_at, again.spec) == (first.id, None, first.spec)


@pytest.mark.looptime
@pytest.mark.parametrize("other", [0, 1])
async def test_a_repeat_waits_for_the_first_while_it_is_in_progress(replicas, other: int) -> None:
    replicas[0].go.clear()
    first = asyncio.create_task(replicas[0].ask(job("a")))
    again = asyncio.create_task(replicas[other].ask(job("b")))
    await asyncio.sleep(5)
    assert not again.done()
    replicas[0].go.set()
    assert (await again).id == (await first).id == "a"
    assert replicas[other].created in ([], ["a"])


async def test_another_wish_under_the_same_key_is_refused(replicas) -> None:
    other = replace(SPEC, max_duration_s=61)
    replicas[0].go.clear()
    first = asyncio.create_task(replicas[0].ask(job("a")))
    await asyncio.sleep(0)
    with pytest.raises(IdempotencyMismatch):
        await replicas[0].ask(job("b", spec=other))
    replicas[0].go.set()
    await first
    for replica in replicas:
        with pytest.raises(IdempotencyMismatch):
            await replica.ask(job("b", spec=other))


async def test_keys_belong_to_a_client(replicas) -> None:
    await replicas[0].ask(job("a"))
    assert (await replicas[0].ask(job("b", client="other"))).id == "b"
    assert (await replicas[0].ask(job("c"), key="another")).id == "c"


async def test_a_refusal_goes_to_everybody_who_waits_and_may_be_tried_again(replicas) -> None:
    replica = replicas[0]
    replica.refuse = CapacityReached()
    replica.go.clear()
    tasks = [asyncio.create_task(replica.ask(job(name))) for name in "abc"]
    await asyncio.sleep(0)
    replica.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [CapacityReached] * 3
    assert replica.created == ["a"]
    replica.refuse = None
    assert (await replica.ask(job("d"))).id == "d"


@pytest.mark.looptime
async def test_a_job_that_was_announced_and_never_came_is_not_waited_for_without_end(
    replicas,
) -> None:
    first = asyncio.create_task(replicas[0].ask(job("a")))
    replicas[0].go.clear()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert replicas[0].created == ["a"]
    again = await replicas[1].ask(job("b"))  # as if the first process had been killed
    assert again.id == "b"
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await replicas[1].ask(job("c"))).id == "b"


async def test_a_job_that_never_ran_is_no_answer(replicas) -> None:
    await replicas[0].ask(job("a"))
    failed = {"state": JobState.FINISHED, "stop_reason": StopReason.START_FAILED}
    await replicas[0].jobs.change("a", lambda present: replace(present, **failed))
    assert (await replicas[1].ask(job("b"))).id == "b"


async def test_a_key_is_forgotten_after_a_day(replicas, clock: ManualClock) -> None:
    await replicas[0].ask(job("a"))
    clock.advance(seconds=24 * 3600 - 1)
    assert (await replicas[0].ask(job("b"))).id == "a"
    clock.advance(seconds=2)
    assert (await replicas[0].ask(job("c"))).id == "c"
