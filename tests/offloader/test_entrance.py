"""Jobs wait a short while for a place: in turn, woken when there is one, refused in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from foundation.clock import ManualClock
from offloader.admission import NO_LIMIT, AdmissionPolicy
from offloader.backends.base import Places
from offloader.client_limits import ClientLimits
from offloader.entrance import Entrance
from offloader.errors import (
    BackendError,
    CapacityReached,
    ClientDiskFull,
    ClientIsFull,
    CreationFailed,
    DiskTooFull,
)
from offloader.models import Job, JobSpec, JobType
from offloader.store.memory import MemoryJobStore

pytestmark = pytest.mark.looptime


def job(number: int, job_type: JobType = JobType.RECORDING, client: str = "ann") -> Job:
    spec = JobSpec(job_type, "r", 3600, {"call_id": f"c{number}", "post_id": "p"})
    return Job(f"{number}-{job_type}", client, spec, datetime(2026, 1, 31, 10, tzinfo=UTC))


class Bench:
    def __init__(
        self,
        *,
        wait_s: float = 20,
        free_disk: int | None = None,
        room: Places | None = None,
        places: int = 1,
        limits: ClientLimits | None = None,
    ) -> None:
        self.room = room
        self.fault = ""
        self.store = MemoryJobStore()
        self.free_disk = free_disk
        self.waits: list[tuple[float, bool]] = []
        self.entrance = Entrance(
            store=self.store,
            policy=AdmissionPolicy(
                places if room is None else NO_LIMIT,
                post_call_slots=1,
                min_free_disk_bytes=None if free_disk is None else 2**30,
            ),
            free_disk=self._disk,
            clock=ManualClock(),
            wait_s=wait_s,
            places=self._places,
            client_limits=limits,
        )
        self.entrance.on_waited(lambda seconds, admitted: self.waits.append((seconds, admitted)))

    async def _disk(self) -> int | None:
        return self.free_disk

    async def _places(self) -> Places | None:
        if self.fault:
            raise BackendError(self.fault)
        return self.room


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_a_free_place_is_taken_at_once() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    assert bench.waits == [(0, True)]


async def test_whoever_waits_gets_in_as_soon_as_there_is_room() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    waiting = asyncio.create_task(bench.entrance.enter(job(2)))
    await asyncio.sleep(3.3)
    await bench.store.delete(job(1).id)
    bench.entrance.room_made()
    await waiting
    assert bench.waits[-1] == (pytest.approx(3.3), True)


async def test_a_place_that_another_replica_gave_up_is_seen_within_a_second() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    waiting = asyncio.create_task(bench.entrance.enter(job(2)))
    await asyncio.sleep(3.3)
    await bench.store.delete(job(1).id)
    await waiting
    assert now_s() <= 4.3


async def test_after_the_wait_the_reference_s_text_is_the_answer() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    with pytest.raises(CapacityReached, match=r"^max concurrent jobs reached$"):
        await bench.entrance.enter(job(2))
    assert now_s() == pytest.approx(20)
    assert bench.waits[-1] == (pytest.approx(20), False)


async def test_without_a_wait_the_answer_is_immediate() -> None:
    bench = Bench(wait_s=0)
    await bench.entrance.enter(job(1))
    with pytest.raises(CapacityReached):
        await bench.entrance.enter(job(2))
    assert now_s() == 0


async def test_a_sibling_never_waits_behind_strangers() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    stranger = asyncio.create_task(bench.entrance.enter(job(2)))
    await asyncio.sleep(1)
    await bench.entrance.enter(job(1, JobType.TRANSCRIBING))
    assert now_s() == pytest.approx(1)
    stranger.cancel()


async def test_first_come_first_served() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    entered: list[int] = []

    async def enter(number: int) -> None:
        await bench.entrance.enter(job(number))
        entered.append(number)

    waiting = [asyncio.create_task(enter(number)) for number in (2, 3)]
    await asyncio.sleep(0.1)
    for held in (1, 2):
        await bench.store.delete(job(held).id)
        bench.entrance.room_made()
        await asyncio.sleep(0.1)
    await asyncio.gather(*waiting)
    assert entered == [2, 3]


async def test_a_full_disk_is_refused_at_once_however_many_places_are_free() -> None:
    bench = Bench(free_disk=2**30)
    with pytest.raises(DiskTooFull):
        await bench.entrance.enter(job(1))
    assert now_s() == 0


@pytest.mark.parametrize(
    ("for_good", "text"), [(False, "is being drained"), (True, "shutting down")]
)
async def test_closing_sends_those_away_who_wait(for_good: bool, text: str) -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    waiting = asyncio.create_task(bench.entrance.enter(job(2)))
    await asyncio.sleep(1)
    bench.entrance.close(for_good=for_good)
    with pytest.raises(CreationFailed, match=text):
        await waiting
    assert now_s() == pytest.approx(1)
    assert bench.entrance.reopen() is not for_good
    await bench.store.delete(job(1).id)
    if not for_good:
        await bench.entrance.enter(job(3))


async def test_the_hosts_that_are_there_have_so_many_places() -> None:
    bench = Bench(room=Places(calls=2, hosts=1))
    for number in (1, 2):
        await bench.entrance.enter(job(number))
    waiting = asyncio.create_task(bench.entrance.enter(job(3)))
    await asyncio.sleep(3.3)
    bench.room = Places(calls=3, hosts=2)  # another host came
    await waiting
    assert now_s() <= 4.3


async def test_what_the_admin_set_limits_the_hosts_too() -> None:
    bench = Bench(wait_s=0, room=Places(calls=9, hosts=3))
    bench.entrance.policy = AdmissionPolicy(1)
    await bench.entrance.enter(job(1))
    with pytest.raises(CapacityReached):
        await bench.entrance.enter(job(2))


async def test_work_after_calls_has_its_slots_on_every_host() -> None:
    bench = Bench(room=Places(calls=2, hosts=3))
    policy = await bench.entrance.policy_now()
    assert (policy.max_calls, policy.post_call_slots) == (2, 3)


async def test_where_no_host_takes_jobs_the_answer_says_so() -> None:
    bench = Bench(room=Places(calls=0, hosts=0))
    with pytest.raises(CapacityReached, match=r"^max concurrent jobs reached: no host takes jobs"):
        await bench.entrance.enter(job(1))
    assert now_s() == pytest.approx(20)


async def test_a_backend_that_cannot_tell_its_room_is_named_at_once() -> None:
    bench = Bench(room=Places(calls=1, hosts=1))
    bench.fault = "the broker redis://b cannot be used"
    with pytest.raises(CreationFailed, match="the broker redis://b"):
        await bench.entrance.enter(job(1))
    assert now_s() == 0
    assert (await bench.entrance.shown_policy()).max_calls == 0


async def test_places_go_to_the_clients_in_rotation_however_many_jobs_one_has_waiting() -> None:
    bench = Bench()
    await bench.entrance.enter(job(0))
    entered: list[Job] = []

    async def enter(wanted: Job) -> None:
        await bench.entrance.enter(wanted)
        entered.append(wanted)

    async def nobody_leaves() -> None:
        await asyncio.sleep(0.01)

    waiting = []
    for number, client in enumerate(["ann"] * 5 + ["bob"] * 2 + ["cid"], start=1):
        waiting.append(asyncio.create_task(enter(job(number, client=client))))
        await nobody_leaves()
    held = job(0)
    while len(entered) < 8:
        await bench.store.delete(held.id)
        bench.entrance.room_made()
        await nobody_leaves()
        held = entered[-1]
    await asyncio.gather(*waiting)
    assert [one.client_id for one in entered] == [
        *("ann", "bob", "cid", "ann", "bob", "ann", "ann", "ann")
    ]
    assert [int(one.id[0]) for one in entered if one.client_id == "ann"] == [1, 2, 3, 4, 5]


async def test_who_comes_later_does_not_get_the_place_that_somebody_waits_for() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    first = asyncio.create_task(bench.entrance.enter(job(2)))
    await asyncio.sleep(0.1)
    await bench.store.delete(job(1).id)  # by another replica, which tells nobody
    late = asyncio.create_task(bench.entrance.enter(job(3, client="bob")))
    await first
    assert not late.done()
    late.cancel()


async def test_the_second_job_of_a_call_comes_in_with_the_first() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    pair = [job(2), job(2, JobType.TRANSCRIBING)]
    waiting = [asyncio.create_task(bench.entrance.enter(job(3, client="bob")))]
    await asyncio.sleep(0.1)
    waiting = [*(asyncio.create_task(bench.entrance.enter(one)) for one in pair), *waiting]
    await asyncio.sleep(0.1)
    for held in (job(1), job(3)):
        await bench.store.delete(held.id)
        bench.entrance.room_made()
        await asyncio.sleep(0.1)
    assert [task.done() for task in waiting] == [True, True, True]


async def test_a_client_at_its_limit_waits_by_itself_and_holds_up_nobody() -> None:
    bench = Bench(places=3, limits=ClientLimits(slots=1))
    await bench.entrance.enter(job(1))
    await bench.entrance.enter(job(1, JobType.TRANSCRIBING))  # of the same call
    second = asyncio.create_task(bench.entrance.enter(job(2)))
    await asyncio.sleep(0.5)
    await bench.entrance.enter(job(3, client="bob"))
    assert now_s() == pytest.approx(0.5)
    with pytest.raises(ClientIsFull, match=r"1 calls in progress, as many as it may"):
        await second
    assert now_s() == pytest.approx(20)


async def test_only_so_many_jobs_of_a_client_wait() -> None:
    bench = Bench(limits=ClientLimits(queue=1))
    await bench.entrance.enter(job(1))
    waiting = [asyncio.create_task(bench.entrance.enter(job(2)))]
    await asyncio.sleep(0.1)
    with pytest.raises(ClientIsFull, match=r"1 jobs of this client wait already"):
        await bench.entrance.enter(job(3))
    assert now_s() == pytest.approx(0.1)
    waiting.append(asyncio.create_task(bench.entrance.enter(job(4, client="bob"))))
    await asyncio.sleep(0.1)
    assert not waiting[-1].done()
    for task in waiting:
        task.cancel()


async def test_a_client_s_jobs_may_write_so_much_and_those_of_others_do_not_count() -> None:
    # 10 % more than one recording of an hour at the default bit rates, two copies.
    bench = Bench(places=9, limits=ClientLimits(disk_bytes=round(1.1 * 2 * 1564 * 125 * 3600)))
    await bench.entrance.enter(job(1))
    with pytest.raises(ClientDiskFull, match=r"not enough disk for this client"):
        await bench.entrance.enter(job(2))
    await bench.entrance.enter(job(3, client="bob"))
    await bench.entrance.enter(job(4, client=""))
    await bench.entrance.enter(job(5, client=""))  # the admin's
    assert now_s() == 0
    await bench.store.change(job(1).id, lambda present: replace(present, post_call=True))
    await bench.entrance.enter(job(2))


async def test_a_client_s_disk_is_never_too_full_for_the_second_job_of_a_pair() -> None:
    bench = Bench(places=9, limits=ClientLimits(disk_bytes=2 * 1564 * 125 * 3600))
    await bench.entrance.enter(job(1))
    with pytest.raises(ClientDiskFull):
        await bench.entrance.enter(job(2, JobType.TRANSCRIBING))
    await bench.entrance.enter(job(1, JobType.TRANSCRIBING))


async def test_who_gives_up_waiting_keeps_nobody_from_a_place() -> None:
    bench = Bench()
    await bench.entrance.enter(job(1))
    gone = asyncio.create_task(bench.entrance.enter(job(2)))
    stays = asyncio.create_task(bench.entrance.enter(job(3)))
    await asyncio.sleep(0.1)
    gone.cancel()
    await bench.store.delete(job(1).id)
    bench.entrance.room_made()
    await stays
    assert now_s() == pytest.approx(0.1)
    await bench.entrance.aclose()
