"""What every job store promises (offloader/store/base.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clientauth.store import ClientExists, ClientStore, MemoryClientStore
from offloader.errors import CapacityReached, JobNotFound
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    OutboxEntry,
    Publication,
    StopReason,
    Workload,
)
from offloader.store.base import JobStore
from offloader.store.database import open_database
from offloader.store.memory import MemoryJobStore
from offloader.store.sql import SqlClientStore, SqlJobStore

NOON = datetime(2026, 1, 31, 12, 0, 0, 123000, tzinfo=UTC)


def job(number: int, **changes: object) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, {"call_id": "c", "n": [1, None, "ü"]})
    plain = Job(f"{number:012x}", "client", spec, NOON + timedelta(seconds=number))
    return replace(plain, **changes)  # type: ignore[arg-type]


def always(_live: object, _job: object) -> bool:
    return True


@pytest.fixture(params=["memory", "sqlite"])
async def stores(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[JobStore, ClientStore]]:
    if request.param == "memory":
        yield MemoryJobStore(), MemoryClientStore()
        return
    database = await open_database(str(tmp_path / "store.db"))
    yield SqlJobStore(database), SqlClientStore(database)
    await database.aclose()


@pytest.fixture
def store(stores: tuple[JobStore, ClientStore]) -> JobStore:
    return stores[0]


@pytest.fixture
def clients(stores: tuple[JobStore, ClientStore]) -> ClientStore:
    return stores[1]


async def test_a_job_comes_back_as_it_was_stored(store: JobStore) -> None:
    full = job(
        1,
        state=JobState.FINISHED,
        stop_reason=StopReason.CRASHED,
        stopped_at=NOON,
        exit_code=3,
        detail="why",
        workload=Workload("process", {"directory": "/x", "shim_pid": 7}),
        figures={"cpu_s": 1.5},
        output_data={"file": "y"},
        unpublished=True,
    )
    for wanted in (full, job(2)):
        await store.reserve(wanted, admits=always)
        assert await store.get(wanted.id) == wanted


async def test_an_unknown_job_is_none_and_cannot_be_changed(store: JobStore) -> None:
    assert await store.get("nothing") is None
    with pytest.raises(JobNotFound):
        await store.change("nothing", lambda job: job)
    await store.delete("nothing")


async def test_what_is_refused_is_not_stored(store: JobStore) -> None:
    with pytest.raises(CapacityReached):
        await store.reserve(job(1), admits=lambda _live, _job: False)
    assert await store.get(job(1).id) is None


async def test_admission_sees_the_live_jobs_and_the_candidate(store: JobStore) -> None:
    await store.reserve(job(2), admits=always)
    await store.reserve(job(1), admits=always)
    await store.reserve(job(3, state=JobState.FINISHED), admits=always)
    seen: list[object] = []
    await store.reserve(
        job(4), admits=lambda live, new: bool(seen.extend([list(live), new])) or True
    )
    assert seen == [[job(1), job(2)], job(4)]


async def test_nobody_is_admitted_between_the_look_and_the_reservation(store: JobStore) -> None:
    async def attempt(number: int) -> bool:
        try:
            await store.reserve(job(number), admits=lambda live, _job: len(live) < 10)
        except CapacityReached:
            return False
        return True

    admitted = await asyncio.gather(*(attempt(number) for number in range(100)))
    assert sum(admitted) == 10
    assert len(await store.live()) == 10


async def test_concurrent_changes_do_not_overwrite_each_other(store: JobStore) -> None:
    await store.reserve(job(1), admits=always)

    def one_more(before: Job) -> Job:
        return replace(before, exit_code=(before.exit_code or 0) + 1)

    await asyncio.gather(*(store.change(job(1).id, one_more) for _ in range(20)))
    changed = await store.get(job(1).id)
    assert changed is not None
    assert changed.exit_code == 20


async def test_a_change_that_raises_leaves_the_job_as_it_was(store: JobStore) -> None:
    await store.reserve(job(1), admits=always)

    def refuse(_job: Job) -> Job:
        raise LookupError

    with pytest.raises(LookupError):
        await store.change(job(1).id, refuse)
    assert await store.get(job(1).id) == job(1)
    assert await store.change(job(1).id, lambda job: replace(job, detail="new")) == job(
        1, detail="new"
    )


async def test_finished_jobs_are_found_by_the_time_of_their_end(store: JobStore) -> None:
    for number, minutes in ((1, 9), (2, 3), (3, 30)):
        ended = NOON + timedelta(minutes=minutes)
        await store.reserve(job(number, state=JobState.FINISHED, stopped_at=ended), admits=always)
    await store.reserve(job(4), admits=always)
    found = await store.finished_before(NOON + timedelta(minutes=10))
    assert [job.id for job in found] == [job(2).id, job(1).id]


async def test_results_that_wait_for_publication_are_found_with_their_retries(
    store: JobStore,
) -> None:
    entry = OutboxEntry(
        Publication.RUNNING, 3, NOON, Workload("process", {"directory": "/x"}), "refused"
    )
    ended = {"state": JobState.FINISHED, "unpublished": True, "post_call": True}
    late = job(1, **ended, stopped_at=NOON + timedelta(hours=2), outbox=entry)
    early = job(2, **ended, stopped_at=NOON + timedelta(hours=1))
    clean = job(3, state=JobState.FINISHED, stopped_at=NOON)
    for each in (late, early, clean, job(4, unpublished=True)):
        await store.reserve(each, admits=always)
    assert list(await store.unpublished()) == [early, late]


async def test_a_deleted_job_is_gone(store: JobStore) -> None:
    await store.reserve(job(1), admits=always)
    await store.delete(job(1).id)
    assert await store.get(job(1).id) is None
    assert list(await store.live()) == []


async def test_clients_are_kept_once(clients: ClientStore) -> None:
    assert await clients.get("a") is None
    await clients.put("a", "hash")
    with pytest.raises(ClientExists):
        await clients.put("a", "other")
    assert await clients.get("a") == "hash"
    await clients.delete("a")
    await clients.delete("a")
    assert await clients.get("a") is None


async def test_of_several_clients_of_one_name_exactly_one_wins(clients: ClientStore) -> None:
    async def attempt(number: int) -> bool:
        try:
            await clients.put("a", f"hash {number}")
        except ClientExists:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(number) for number in range(10)))) == 1
