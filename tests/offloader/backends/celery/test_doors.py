"""One look at many jobs: asked once for all who ask together, and never older than half a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from offloader.backends.base import Observation, Phase
from offloader.backends.celery.doors import Door, Doors
from offloader.backends.remote.client import DoorUnreachable
from offloader.errors import BackendError
from offloader.models import Workload

pytestmark = pytest.mark.looptime

RUNNING = Observation(Phase.RUNNING)


def workload(number: int) -> Workload:
    return Workload("process", {"id": number})


class Remote:
    """Answers after 0.1 s with what was true when it was asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.seen: dict[int, Observation | BackendError] = {}
        self.failure: BackendError | None = None
        self.closed = False

    async def poll_many(self, workloads: Sequence[Workload]) -> list[Any]:
        self.asked.append(len(workloads))
        looks = [self.seen.get(int(each.reference["id"]), RUNNING) for each in workloads]
        await asyncio.sleep(0.1)
        if self.failure is not None:
            raise self.failure
        return looks

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
async def door() -> AsyncIterator[tuple[Remote, Door, Callable[[], int]]]:
    remote, heard = Remote(), []
    backend: Any = remote
    made = Door(backend, heard=lambda: heard.append(1))
    yield remote, made, lambda: len(heard)
    await made.aclose()
    assert remote.closed


async def test_those_who_ask_together_are_answered_by_two_requests(door) -> None:
    remote, at, _ = door
    looks = await asyncio.gather(*(at.look(workload(n)) for n in range(50)))
    assert set(map(repr, looks)) == {repr(RUNNING)}
    assert sum(remote.asked) >= 50
    assert len(remote.asked) <= 2


async def test_a_round_one_after_the_other_asks_once_for_all_it_knows(door) -> None:
    remote, at, _ = door
    await asyncio.gather(*(at.look(workload(n)) for n in range(20)))
    await asyncio.sleep(1)
    remote.asked.clear()
    for number in range(20):
        await at.look(workload(number))
    assert remote.asked == [20]


async def test_no_look_is_older_than_half_a_second(door) -> None:
    remote, at, _ = door
    await at.look(workload(1))
    remote.seen[1] = Observation(Phase.EXITED, exit_code=0)
    await asyncio.sleep(0.5)
    assert (await at.look(workload(1))).phase is Phase.EXITED


async def test_after_a_change_nobody_is_told_what_was_before_it(door) -> None:
    remote, at, _ = door
    await at.look(workload(1))
    remote.seen[1] = Observation(Phase.EXITED, exit_code=0)
    at.changed()
    assert (await at.look(workload(1))).phase is Phase.EXITED


async def test_after_a_change_a_look_that_was_under_way_is_good_for_nobody_else(door) -> None:
    remote, at, _ = door
    looking = asyncio.create_task(at.look(workload(1)))
    await asyncio.sleep(0.05)
    remote.seen[1] = Observation(Phase.EXITED, exit_code=0)
    at.changed()
    later = asyncio.create_task(at.look(workload(1)))
    assert await looking == RUNNING
    assert (await later).phase is Phase.EXITED
    assert len(remote.asked) == 2


async def test_changes_without_end_hold_nobody_up(door) -> None:
    _, at, _ = door

    async def change() -> None:
        while True:
            at.changed()
            await asyncio.sleep(0.01)

    changing = asyncio.create_task(change())
    began_s = asyncio.get_running_loop().time()
    assert await at.look(workload(1)) == RUNNING
    assert asyncio.get_running_loop().time() - began_s < 0.3
    changing.cancel()


async def test_when_one_ends_the_others_are_looked_at_again(door) -> None:
    """A salvage that ends changes what its job has left unpublished."""
    remote, at, _ = door
    left = Observation(Phase.EXITED, exit_code=1, unpublished=True)
    remote.seen = {1: left, 2: RUNNING}
    await asyncio.gather(at.look(workload(1)), at.look(workload(2)))
    await asyncio.sleep(1)
    remote.seen[2] = Observation(Phase.EXITED, exit_code=0)
    looking = asyncio.create_task(at.look(workload(2)))
    await asyncio.sleep(0.05)  # the worker has looked at both by now
    remote.seen[1] = Observation(Phase.EXITED, exit_code=1)
    assert (await looking).phase is Phase.EXITED
    assert not (await at.look(workload(1))).unpublished


async def test_what_the_worker_could_not_see_is_its_error_and_only_that_ones(door) -> None:
    remote, at, heard = door
    remote.seen[1] = BackendError("damaged")
    with pytest.raises(BackendError, match="damaged"):
        await at.look(workload(1))
    assert await at.look(workload(2)) == RUNNING
    assert heard() == 2


async def test_a_door_where_nobody_answers_is_tried_once_a_second(door) -> None:
    remote, at, heard = door
    remote.failure = DoorUnreachable("away")
    for _ in range(20):
        with pytest.raises(DoorUnreachable):
            await at.look(workload(1))
        await asyncio.sleep(0.1)
    assert len(remote.asked) == 2
    assert heard() == 0
    remote.failure = None
    await asyncio.sleep(1)
    assert await at.look(workload(1)) == RUNNING


async def test_what_was_seen_last_is_known_while_nobody_answers(door) -> None:
    remote, at, _ = door
    assert at.last(workload(1)) is None
    await at.look(workload(1))
    remote.failure = DoorUnreachable("away")
    await asyncio.sleep(1)
    with pytest.raises(DoorUnreachable):
        await at.look(workload(1))
    assert at.last(workload(1)) == RUNNING


async def test_jobs_that_nobody_asks_for_are_not_looked_at(door) -> None:
    remote, at, _ = door
    await asyncio.gather(*(at.look(workload(n)) for n in range(5)))
    await asyncio.sleep(16)
    await at.look(workload(0))
    assert remote.asked[-1] == 1


async def test_a_look_that_is_cancelled_leaves_the_others_theirs(door) -> None:
    _, at, _ = door
    first = asyncio.create_task(at.look(workload(1)))
    second = asyncio.create_task(at.look(workload(1)))
    await asyncio.sleep(0.05)
    first.cancel()
    assert await second == RUNNING


async def test_doors_that_nobody_needs_any_more_are_closed() -> None:
    remotes: list[Remote] = []

    def connect(_url: str) -> Any:
        remotes.append(Remote())
        return remotes[-1]

    doors = Doors(connect, lambda url: None)
    reading = doors.at("http://w1")
    reading.streams += 1
    await asyncio.sleep(700)
    await doors.close_unused()
    assert not remotes[0].closed, "a log is followed there"
    reading.streams -= 1
    await asyncio.sleep(500)
    assert doors.at("http://w2") is doors.at("http://w2")
    await asyncio.sleep(200)
    await doors.close_unused()
    assert [remote.closed for remote in remotes] == [True, False]
    await doors.aclose()
    assert all(remote.closed for remote in remotes)
