"""Which places a worker has, over restarts too, and what follows from them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from offloader.backends.base import Observation, Phase
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError
from offloader.models import JobType, Workload
from offloader.settings import load_settings
from offloader.worker.books import Books
from offloader.worker.house import House

A, B, C = "a" * 12, "b" * 12, "c" * 12
REC, TRANS = JobType.RECORDING, JobType.TRANSCRIBING


class OpenLanes(set[str]):
    """Which are open."""

    open = set.add
    close = set.discard


def make_house(
    directory: Path,
    backend: StubBackend,
    *,
    slots: int = 1,
    min_free_disk_bytes: int | None = None,
) -> tuple[House, Books]:
    environ = {"WORKER_NAME": "w1", "WORKER_SLOTS": str(slots)}
    settings = load_settings(directory / "none.toml", environ).worker
    books = Books(directory / "worker.json", slots=slots)
    house = House(
        settings,
        url="http://w1",
        backend=backend,
        books=books,
        min_free_disk_bytes=min_free_disk_bytes,
    )
    return house, books


def launch(books: Books, backend: StubBackend, job_id: str, job_type: JobType = REC) -> Workload:
    books.reserve(job_id, job_type, message_id=f"m-{job_id}")
    backend.observations[job_id] = Observation(Phase.RUNNING)
    workload = Workload("stub", {"id": job_id})
    books.launched(job_id, workload)
    return workload


async def test_a_lane_is_open_while_there_is_a_place_of_its_type(tmp_path: Path) -> None:
    backend, lanes = StubBackend(), OpenLanes()
    house, books = make_house(tmp_path, backend)
    await house.begin()
    house.attach(lanes)
    assert lanes == {"recording", "transcribing"}
    books.reserve(A, REC, message_id="m")
    assert house.launching()
    workload = launch(books, backend, A)
    assert not house.launching()
    house.changed()
    assert lanes == {"transcribing"}
    assert (house.card.recording, house.card.transcribing) == (1, 0)
    house.lowered(workload)
    assert lanes == {"recording", "transcribing"}
    house.lowered(workload)
    assert house.card.recording == 0


@pytest.mark.looptime
async def test_a_host_whose_own_disk_is_full_takes_nothing_until_there_is_room(
    tmp_path: Path,
) -> None:
    backend, lanes = StubBackend(free_disk=1 << 30), OpenLanes()
    house, _ = make_house(tmp_path, backend, min_free_disk_bytes=2 << 30)
    await house.begin()
    house.attach(lanes)
    assert lanes == set()
    assert house.card.usable == (
        "not enough disk: 1.0 GiB are free, 2.0 GiB have to stay free (jobs.min_free_disk)"
    )
    running = asyncio.create_task(house.run())
    backend.free_disk = 2 << 30
    await asyncio.sleep(6)
    assert lanes == {"recording", "transcribing"}
    assert house.card.usable == ""
    running.cancel()


@pytest.mark.looptime
async def test_a_job_that_ends_gives_its_place_back_within_two_seconds(tmp_path: Path) -> None:
    backend, lanes = StubBackend(), OpenLanes()
    house, books = make_house(tmp_path, backend)
    await house.begin()
    house.attach(lanes)
    launch(books, backend, A)
    house.changed()
    running = asyncio.create_task(house.run())
    await asyncio.sleep(5)
    assert "recording" not in lanes
    backend.exit(A)
    await asyncio.sleep(2)
    assert "recording" in lanes
    running.cancel()


@pytest.mark.looptime
async def test_a_job_that_cannot_be_looked_at_keeps_its_place(tmp_path: Path) -> None:
    class Away(StubBackend):
        async def poll(self, workload: Workload) -> Observation:
            raise BackendError("away")

    backend = Away()
    house, books = make_house(tmp_path, backend)
    launch(books, backend, A)
    running = asyncio.create_task(house.run())
    await asyncio.sleep(5)
    assert books.taken(REC) == 1
    running.cancel()


@pytest.mark.looptime
async def test_a_worker_whose_backend_is_unusable_takes_nothing_and_says_why(
    tmp_path: Path,
) -> None:
    backend, lanes = StubBackend(unusable="no disk"), OpenLanes()
    house, _ = make_house(tmp_path, backend)
    await house.begin()
    house.attach(lanes)
    assert (lanes, house.card.usable) == (set(), "no disk")
    backend.unusable = ""
    running = asyncio.create_task(house.run())
    await asyncio.sleep(10)
    assert (lanes, house.card.usable) == ({"recording", "transcribing"}, "")
    running.cancel()


async def test_after_a_restart_jobs_that_run_hold_their_places_and_lowered_ones_do_not(
    tmp_path: Path,
) -> None:
    backend = StubBackend(strangers=(A, B, C))
    house, books = make_house(tmp_path, backend, slots=3)
    launch(books, backend, A)
    house.lowered(launch(books, backend, B, TRANS))
    launch(books, backend, C)
    await books.save()
    backend.exit(C)
    again, later = make_house(tmp_path, backend, slots=3)
    await again.begin()
    assert set(later.entries) == {A, B}
    assert (later.taken(REC), later.taken(TRANS)) == (1, 0)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"jobs": {"a": 1}}', '{"jobs": {"a": {}}}']
)
async def test_a_running_job_that_the_books_do_not_know_holds_a_place_of_each_type(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "worker.json").write_text(content)
    house, books = make_house(tmp_path, StubBackend(strangers=(A,)))
    await house.begin()
    assert (books.free(REC), books.free(TRANS)) == (0, 0)


@pytest.mark.looptime
async def test_draining_waits_for_jobs_and_a_second_signal_stops_them(tmp_path: Path) -> None:
    backend, lanes = StubBackend(), OpenLanes()
    house, books = make_house(tmp_path, backend)
    await house.begin()
    house.attach(lanes)
    launch(books, backend, A)
    running = asyncio.create_task(house.run())
    hurry = asyncio.Event()
    draining = asyncio.create_task(house.drain(hurry=hurry, stop_grace_s=300))
    await asyncio.sleep(3600)
    assert (draining.done(), backend.stopped, lanes) == (False, [], set())
    assert house.card.draining
    hurry.set()
    await asyncio.sleep(3)
    assert backend.stopped == [(A, 300)]
    backend.exit(A)
    await asyncio.sleep(3)
    assert not draining.done(), "the service does not know of its end yet"
    house.told(Workload("stub", {"id": A}))
    await asyncio.sleep(3)
    assert draining.done()
    running.cancel()


@pytest.mark.looptime
@pytest.mark.parametrize(("told_s", "waits_s"), [(0.0, 2.1), (8.0, 12.1), (None, 18.1)])
async def test_a_draining_worker_ends_when_the_service_knows_of_all_ends_or_is_not_there(
    tmp_path: Path, told_s: float | None, waits_s: float
) -> None:
    backend = StubBackend()
    house, books = make_house(tmp_path, backend)
    await house.begin()
    launch(books, backend, A)
    running = asyncio.create_task(house.run())
    draining = asyncio.create_task(house.drain(hurry=asyncio.Event(), stop_grace_s=300))
    backend.exit(A)
    if told_s is not None:
        await asyncio.sleep(told_s)
        house.told(Workload("stub", {"id": A}))
    async with asyncio.timeout(waits_s - (told_s or 0)):
        await draining
    running.cancel()


async def test_where_jobs_outlive_the_worker_draining_does_not_wait(tmp_path: Path) -> None:
    backend = StubBackend(ends_with_service=False)
    house, books = make_house(tmp_path, backend)
    launch(books, backend, A)
    async with asyncio.timeout(5):
        await house.drain(hurry=asyncio.Event(), stop_grace_s=300)
    assert backend.stopped == []
