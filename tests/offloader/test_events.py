"""Who is told what of which job, and what becomes of listeners that are too slow."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from clientauth.service import Identity
from offloader.errors import TooManyListeners
from offloader.events import JobEvents
from offloader.models import Job, JobSpec, JobState, JobType, StopReason
from offloader.store.memory import MemoryJobStore
from offloader.store.observed import ObservedJobStore

PLUGIN, ADMIN = Identity("plugin"), Identity("", admin=True)
SPEC = JobSpec(JobType.RECORDING, "r", 60, {})


def job(job_id: str = "a", client: str = "plugin", state: JobState = JobState.PENDING) -> Job:
    return Job(job_id, client, SPEC, datetime(2026, 1, 1, tzinfo=UTC), state)


async def add(store: MemoryJobStore | ObservedJobStore, new: Job) -> None:
    await store.reserve(new, admits=lambda _live, _job: True)


def ended(present: Job) -> Job:
    return replace(present, state=JobState.FINISHED, stop_reason=StopReason.COMPLETED)


class Scene:
    """This process's view of a store that another replica uses as well."""

    def __init__(self, capacity: int = 256) -> None:
        self.shared = MemoryJobStore()
        self.store = ObservedJobStore(self.shared)
        self.events = JobEvents(self.store, capacity=capacity)
        self.store.on_change(self.events.changed)


def heard(listener) -> list[tuple[str, str]]:
    found = []
    while (told := listener.jobs.receive_nowait()) is not None:
        found.append((told.id, told.state.value))
    return found


async def test_a_listener_hears_every_change_of_its_own_jobs_and_the_admin_of_all() -> None:
    scene = Scene()
    async with scene.events.listen(PLUGIN) as mine, scene.events.listen(ADMIN) as all_of_them:
        await add(scene.store, job("a"))
        await add(scene.store, job("b", client="other"))
        await scene.store.change("a", lambda j: replace(j, state=JobState.STARTING))
        await scene.store.change("a", lambda j: replace(j, figures={"cpu_s": 1.0}))
        await scene.store.change("a", ended)
        assert heard(mine) == [("a", "pending"), ("a", "starting"), ("a", "finished")]
        assert ("b", "pending") in heard(all_of_them)


async def test_a_listener_first_hears_what_lives() -> None:
    scene = Scene()
    await add(scene.store, job("a"))
    await add(scene.store, job("b"))
    await scene.store.change("b", ended)
    async with scene.events.listen(PLUGIN) as listener:
        assert heard(listener) == [("a", "pending")]


async def test_what_another_replica_does_is_found_by_looking() -> None:
    scene = Scene()
    await add(scene.store, job("a"))
    async with scene.events.listen(PLUGIN) as listener:
        heard(listener)
        await scene.events.look()
        assert heard(listener) == []
        await add(scene.shared, job("b"))
        await scene.shared.change("a", lambda j: replace(j, state=JobState.RUNNING))
        await scene.events.look()
        assert sorted(heard(listener)) == [("a", "running"), ("b", "pending")]
        await scene.shared.change("a", ended)
        await scene.shared.delete("b")
        await scene.events.look()
        assert heard(listener) == [("a", "finished")]
        await scene.events.look()
        assert heard(listener) == []


async def test_a_slow_listener_loses_the_oldest_and_is_told_how_many() -> None:
    scene = Scene(capacity=2)
    async with scene.events.listen(PLUGIN) as listener:
        for name in "abcde":
            await add(scene.store, job(name))
        assert listener.newly_dropped() == 3
        assert heard(listener) == [("d", "pending"), ("e", "pending")]
        assert listener.newly_dropped() == 0


async def test_the_end_of_the_service_ends_every_listener_after_what_is_queued() -> None:
    scene = Scene()
    async with scene.events.listen(PLUGIN) as listener:
        await add(scene.store, job("a"))
        scene.events.close()
        assert [told.id async for told in listener.jobs] == ["a"]
        await scene.store.change("a", ended)
    with pytest.raises(TooManyListeners):
        async with scene.events.listen(PLUGIN):
            pass


async def test_no_more_than_a_hundred_listen() -> None:
    from contextlib import AsyncExitStack

    scene = Scene()
    async with AsyncExitStack() as stack:
        for _ in range(100):
            await stack.enter_async_context(scene.events.listen(PLUGIN))
        with pytest.raises(TooManyListeners):
            scene.events.check_room()
    scene.events.check_room()
