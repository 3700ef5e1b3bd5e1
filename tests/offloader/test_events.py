"""Who is told what of which job, and what becomes of listeners that are too slow."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from clientauth.service import Identity
from foundation.channel import ChannelClosed
from offloader.errors import AddressListensTooOften, ListensTooOften, TooManyListeners
from offloader.events import MOST_LISTENERS, MOST_OF_ONE_SOURCE, JobEvents
from offloader.http_guard import MOST_OF_ONE_ADDRESS
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
    while some := listener.waiting():
        found += [(told.job.id, told.job.state.value) for told in some]
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


async def test_holds_and_deletions_that_wait_are_told_to_the_admin_alone() -> None:
    scene = Scene()
    when = datetime(2026, 1, 2, tzinfo=UTC)
    async with scene.events.listen(PLUGIN) as mine, scene.events.listen(ADMIN) as all_of_them:
        await add(scene.store, job("a"))
        await scene.store.change("a", lambda j: replace(j, hold="case 7"))
        await scene.shared.change("a", lambda j: replace(j, hold="case 8"))  # another replica
        await scene.events.look()
        await scene.store.change("a", ended)
        await scene.store.change("a", lambda j: replace(j, hold="", deletion_at=when))
        await scene.store.change("a", lambda j: replace(j, post_call=True))
        told = [(some.job.hold, some.job.deletion_at) for some in all_of_them.waiting()]
        assert told == [
            *(("", None), ("case 7", None), ("case 8", None), ("case 8", None)),
            *(("", when), ("", when)),
        ]
        assert heard(mine) == [("a", "pending"), ("a", "finished")]


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


async def test_what_was_told_while_the_store_was_read_is_not_taken_back_and_hides_nothing_else() -> (
    None
):
    scene = Scene()
    await add(scene.store, job("a"))
    async with scene.events.listen(PLUGIN) as listener:
        heard(listener)
        await add(scene.shared, job("b"))
        live = scene.shared.live

        async def slow() -> object:
            found = await live()
            await scene.store.change("a", lambda j: replace(j, state=JobState.STARTING))
            await add(scene.store, job("c"))
            return found

        scene.shared.live = slow
        await scene.events.look()
        assert heard(listener) == [("a", "starting"), ("c", "pending"), ("b", "pending")]
        scene.shared.live = live
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
        assert [told.job.id for told in await listener.some()] == ["a"]
        with pytest.raises(ChannelClosed):
            await listener.some()
        await scene.store.change("a", ended)
    with pytest.raises(TooManyListeners):
        async with scene.events.listen(PLUGIN):
            pass


async def test_no_more_than_so_many_listen() -> None:
    scene = Scene()
    async with AsyncExitStack() as stack:
        for _ in range(MOST_LISTENERS):
            await stack.enter_async_context(scene.events.listen(PLUGIN))
        with pytest.raises(TooManyListeners):
            scene.events.check_room(PLUGIN)
    scene.events.check_room(PLUGIN)


async def test_more_jobs_may_live_than_a_listener_s_queue_holds() -> None:
    scene = Scene(capacity=2)
    for number in range(9):
        await add(scene.store, job(str(number)))
    async with scene.events.listen(PLUGIN) as listener:
        await scene.store.change("0", ended)
        assert heard(listener) == [
            *[(str(number), "pending") for number in range(9)],
            ("0", "finished"),
        ]
        assert listener.newly_dropped() == 0


async def test_the_store_is_asked_what_lives_once_for_all_who_begin_at_once() -> None:
    scene = Scene()
    await add(scene.store, job("a"))
    asked = 0
    live = scene.shared.live

    async def counted() -> object:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return await live()

    scene.shared.live = counted

    async def begin() -> list[tuple[str, str]]:
        async with scene.events.listen(PLUGIN) as listener:
            everybody.append(listener)
            while len(everybody) < 20:
                await asyncio.sleep(0)
            return heard(listener)

    everybody: list[object] = []
    assert await asyncio.gather(*(begin() for _ in range(20))) == [[("a", "pending")]] * 20
    assert asked == 1


async def test_what_an_event_says_is_written_once_for_all_clients_and_once_for_the_admin() -> None:
    scene = Scene()
    written: list[Identity] = []

    def write(told: Job, client: Identity) -> bytes:
        written.append(client)
        return told.id.encode()

    async with (
        scene.events.listen(PLUGIN) as one,
        scene.events.listen(PLUGIN) as two,
        scene.events.listen(ADMIN) as admin,
    ):
        await add(scene.store, job("a"))
        for listener, client in ((one, PLUGIN), (two, PLUGIN), (admin, ADMIN)):
            assert [told.text(client, write) for told in listener.waiting()] == [b"a"]
    assert written == [PLUGIN, ADMIN]


async def test_a_client_listens_so_often_and_others_are_not_counted_with_it() -> None:
    scene = Scene()
    events = JobEvents(scene.store, most_each=2)
    async with events.listen(PLUGIN), AsyncExitStack() as stack:
        await stack.enter_async_context(events.listen(PLUGIN))
        with pytest.raises(ListensTooOften):
            events.check_room(PLUGIN)
        events.check_room(Identity("other"))
        for _ in range(3):
            await stack.enter_async_context(events.listen(ADMIN))
        await stack.aclose()
        events.check_room(PLUGIN)


async def test_one_address_never_takes_all_streams_nor_all_connections_whatever_clients_it_has() -> (
    None
):
    assert MOST_OF_ONE_SOURCE < MOST_LISTENERS < MOST_OF_ONE_ADDRESS
    events = Scene().events
    async with AsyncExitStack() as stack:
        for number in range(MOST_OF_ONE_SOURCE):
            client = Identity(f"client {number % 12}")
            await stack.enter_async_context(events.listen(client, "192.0.2.1"))
        with pytest.raises(AddressListensTooOften):
            events.check_room(Identity("another"), "192.0.2.1")
        events.check_room(Identity("another"), "192.0.2.2")
        await stack.enter_async_context(events.listen(ADMIN, "192.0.2.1"))
    events.check_room(Identity("another"), "192.0.2.1")
    assert not events._of_source


async def test_whoever_has_a_name_now_hears_nothing_of_its_former_owner_s_jobs() -> None:
    scene = Scene()
    await add(scene.store, replace(job("a"), registration="former"))
    async with scene.events.listen(Identity("plugin", registration="present")) as listener:
        await scene.store.change("a", ended)
        await add(scene.store, replace(job("b"), registration="present"))
        assert heard(listener) == [("b", "pending")]
