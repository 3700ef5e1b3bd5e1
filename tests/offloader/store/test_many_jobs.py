"""Thousands of jobs in a database: only what has changed is read again, and who comes together is decided
together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from offloader.errors import CapacityReached, StoreError
from offloader.models import Job, JobSpec, JobState, JobType
from offloader.store.base import Lease
from offloader.store.sql import SqlJobStore
from offloader.store.stores import open_stores

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def job(number: int, **changes: object) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, {"call_id": f"c{number}"})
    return replace(
        Job(f"{number:012x}", "client", spec, NOON + timedelta(seconds=number)), **changes
    )


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlJobStore]:
    source = str(tmp_path / "store.db")
    if request.param == "postgres":
        source = request.getfixturevalue("postgres").new_database()
    async with open_stores(source, environ={}, state_dir=tmp_path) as opened:
        yield opened.jobs


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of databases meanwhile."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def reserve(store: SqlJobStore, *numbers: int, most: int = 10**6) -> list[object]:
    return await asyncio.gather(
        *(
            store.reserve(job(number), admits=lambda live, _: len(live) < most)
            for number in numbers
        ),
        return_exceptions=True,
    )


async def test_a_job_that_has_not_changed_is_not_read_again(store: SqlJobStore) -> None:
    await reserve(store, 1, 2, 3)
    first = await store.live()
    await store.change(job(2).id, lambda j: replace(j, detail="new"))
    with statements() as asked:
        second = await store.live()
    assert [one.detail for one in second] == ["", "new", ""]
    assert second[0] is first[0]
    assert second[2] is first[2]
    assert len([text for text in asked if "input_data" in text]) == 1
    with statements() as asked:
        third = await store.live()
    assert [one is other for one, other in zip(second, third, strict=True)] == [True] * 3
    assert not [text for text in asked if "input_data" in text]


async def test_what_another_process_changes_is_seen(store: SqlJobStore) -> None:
    await reserve(store, 1, 2)
    other = SqlJobStore(store._database)
    await store.live()
    await other.change(job(1).id, lambda j: replace(j, post_call=True))
    await other.change(job(2).id, lambda j: j.moved_to(JobState.FINISHED, stopped_at=NOON))
    assert [(one.id, one.post_call) for one in await store.live()] == [(job(1).id, True)]
    await other.delete(job(1).id)
    assert await store.live() == []


async def test_renewing_leases_reads_no_job_again(store: SqlJobStore) -> None:
    await reserve(store, *range(1200))
    lease = Lease("me", ttl_s=0.0)
    assert len((await store.claim(lease)).live) == 1200
    with statements() as asked:
        assert len((await store.claim(lease)).live) == 1200
    assert len([text for text in asked if text.startswith("UPDATE")]) == 3
    assert not [text for text in asked if "input_data" in text]


async def test_those_who_come_at_once_are_decided_with_one_look_in_their_order(
    store: SqlJobStore,
) -> None:
    with statements() as asked:
        outcomes = await reserve(store, *range(50), most=30)
    assert [outcome is None for outcome in outcomes] == [True] * 30 + [False] * 20
    assert {type(outcome) for outcome in outcomes[30:]} == {CapacityReached}
    assert len(await store.live()) == 30
    assert len([text for text in asked if text.startswith("INSERT")]) <= 2


async def test_what_is_raised_about_one_is_not_told_to_the_others(store: SqlJobStore) -> None:
    def refuse(_live: object, _job: object) -> bool:
        raise ValueError("about this one")

    outcomes = await asyncio.gather(
        store.reserve(job(1), admits=lambda *_: True),
        store.reserve(job(2), admits=refuse),
        store.reserve(job(3), admits=lambda *_: True),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), ValueError, type(None)]
    assert [one.id for one in await store.live()] == [job(1).id, job(3).id]


async def test_what_the_database_refuses_of_one_does_not_cost_the_others_theirs(
    store: SqlJobStore,
) -> None:
    outcomes = await asyncio.gather(
        store.reserve(job(1), admits=lambda *_: True),
        store.reserve(job(2, client_id=None), admits=lambda *_: True),
        store.reserve(job(3), admits=lambda *_: True),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
    assert [one.id for one in await store.live()] == [job(1).id, job(3).id]


async def test_whoever_gives_up_before_its_turn_gets_no_place(store: SqlJobStore) -> None:
    async with store._database.write():  # SQLite's only one; PostgreSQL's lock is another
        first = asyncio.create_task(store.reserve(job(1), admits=lambda *_: True))
        second = asyncio.create_task(store.reserve(job(2), admits=lambda *_: True))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
    await first
    await store.aclose()
    assert [one.id for one in await store.live()] == [job(1).id]
