"""However many jobs live, a round looks at so many; nobody is forgotten."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from offloader.looks import Looks, look_at_all
from offloader.models import Job, JobSpec, JobState, JobType

SPEC = JobSpec(JobType.RECORDING, "r", 60, {})
SECOND_NS = 1_000_000_000


def job(number: int, state: JobState = JobState.RUNNING) -> Job:
    return Job(f"{number:012x}", "ann", SPEC, datetime(2026, 1, 1, tzinfo=UTC), state)


def test_up_to_two_thousand_jobs_are_all_looked_at_and_their_logs_read_every_five_seconds() -> None:
    looks = Looks(logs_every_ns=5 * SECOND_NS)
    jobs = [job(number) for number in range(100)]
    read_at = []
    for second in range(12):
        chosen, read = looks.turn(jobs, now_ns=second * SECOND_NS)
        assert chosen == jobs
        if read:
            assert read == {one.id for one in jobs}
            read_at.append(second)
    assert read_at == [0, 5, 10]


def test_of_ten_thousand_each_is_looked_at_every_five_rounds_and_those_that_move_always() -> None:
    looks = Looks(logs_every_ns=5 * SECOND_NS)
    jobs = [job(number) for number in range(9900)]
    moving = [job(number, JobState.STOPPING) for number in range(9900, 10_000)]
    seen: set[str] = set()
    for second in range(6):
        chosen, read = looks.turn([*jobs, *moving], now_ns=second * SECOND_NS)
        assert len(chosen) == 2000
        assert {one.id for one in moving} <= {one.id for one in chosen}
        assert len(read) == 200
        seen |= {one.id for one in chosen}
    assert len(seen) == 10_000


def test_every_log_has_its_turn_though_there_is_never_time_for_all() -> None:
    looks = Looks(logs_every_ns=5 * SECOND_NS)
    jobs = [job(number) for number in range(3000)]
    read_of: dict[str, int] = {}
    for second in range(30):
        for job_id in looks.turn(jobs, now_ns=second * SECOND_NS)[1]:
            read_of[job_id] = read_of.get(job_id, 0) + 1
    assert len(read_of) == 3000
    assert max(read_of.values()) <= 3


async def test_all_are_looked_at_though_some_fail_and_the_first_failure_is_raised() -> None:
    looked = []

    async def look(one: Job) -> None:
        looked.append(one.id)
        await asyncio.sleep(0)
        if one.id.endswith("7"):
            raise OSError(one.id)

    jobs = [job(number) for number in range(600)]
    with pytest.raises(OSError, match=r"^0+7$"):
        await look_at_all(jobs, look)
    assert sorted(looked) == [one.id for one in jobs]


async def test_looks_are_many_at_a_time_but_not_all() -> None:
    at_once = most = 0

    async def look(_one: Job) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1

    await look_at_all([job(number) for number in range(600)], look)
    assert most == 256


async def test_a_round_that_is_cancelled_leaves_no_look_behind() -> None:
    under_way = 0

    async def look(_one: Job) -> None:
        nonlocal under_way
        under_way += 1
        try:
            await asyncio.Event().wait()
        finally:
            under_way -= 1

    looking = asyncio.create_task(look_at_all([job(number) for number in range(9)], look))
    while under_way < 9:
        await asyncio.sleep(0)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert under_way == 0
