"""Jobs wait a short while for a place: in turn, woken when there is one, refused in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from foundation.clock import ManualClock
from offloader.admission import AdmissionPolicy
from offloader.entrance import Entrance
from offloader.errors import CapacityReached, CreationFailed, DiskTooFull
from offloader.models import Job, JobSpec, JobType
from offloader.store.memory import MemoryJobStore

pytestmark = pytest.mark.looptime


def job(number: int, job_type: JobType = JobType.RECORDING) -> Job:
    spec = JobSpec(job_type, "r", 3600, {"call_id": f"c{number}", "post_id": "p"})
    return Job(f"{number}-{job_type}", "ann", spec, datetime(2026, 1, 31, 10, tzinfo=UTC))


class Bench:
    def __init__(self, *, wait_s: float = 20, free_disk: int | None = None) -> None:
        self.store = MemoryJobStore()
        self.free_disk = free_disk
        self.waits: list[tuple[float, bool]] = []
        self.entrance = Entrance(
            store=self.store,
            policy=AdmissionPolicy(1, min_free_disk_bytes=None if free_disk is None else 2**30),
            free_disk=self._disk,
            clock=ManualClock(),
            wait_s=wait_s,
        )
        self.entrance.on_waited(lambda seconds, admitted: self.waits.append((seconds, admitted)))

    async def _disk(self) -> int | None:
        return self.free_disk


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
