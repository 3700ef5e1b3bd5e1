"""From a launch message to a job: once, whatever is delivered twice, refused or late."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from offloader.backends.base import LaunchRequest
from offloader.backends.celery.messages import LaunchOrder
from offloader.backends.stub import StubBackend
from offloader.models import JobType, Workload
from offloader.store.secret_key import Cipher
from offloader.worker.books import Books
from offloader.worker.claims import ServiceUnreachable
from offloader.worker.lanes import Verdict
from offloader.worker.launching import Launching

CIPHER = Cipher("k" * 32)
A, B = "a" * 12, "b" * 12


class ScriptedClaims:
    """Says what the test says."""

    def __init__(self) -> None:
        self.mine: bool | None = True
        """None: nobody answers."""
        self.asked: list[str] = []
        self.told: list[tuple[str, Workload | str]] = []
        self.hold: asyncio.Event | None = None

    async def claim(self, claim_url: str, job_id: str) -> bool:
        self.asked.append(job_id)
        if self.hold is not None:
            await self.hold.wait()
        if self.mine is None:
            raise ServiceUnreachable("nobody")
        return self.mine

    async def tell(self, claim_url: str, job_id: str, outcome: Workload | str) -> None:
        self.told.append((job_id, outcome))


class Here:
    """A worker's launching with one place per type."""

    def __init__(self, directory: Path, backend: StubBackend) -> None:
        self.backend, self.claims = backend, ScriptedClaims()
        self.books = Books(directory / "worker.json", slots=1)
        self.closed: list[JobType] = []
        self.launching = Launching(
            backend=backend,
            books=self.books,
            claims=self.claims,
            cipher=CIPHER,
            room=lambda job_type: bool(self.books.free(job_type)),
            closed=self._closed,
            changed=lambda: None,
        )

    async def _closed(self, job_type: JobType) -> None:
        self.closed.append(job_type)

    async def take(
        self,
        job_id: str,
        *,
        message_id: str = "m1",
        job_type: JobType = JobType.RECORDING,
    ) -> Verdict:
        request = LaunchRequest(job_id, job_type, "runner", {"auth_token": "hush"}, 60)
        sealed = LaunchOrder.of(request, claim_url="http://service").sealed(CIPHER, job_id)
        return await self.launching.take(message_id, {"job_id": job_id, "sealed": sealed})


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path, StubBackend())


async def test_a_job_is_launched_as_it_was_ordered_and_its_workload_told(here: Here) -> None:
    assert await here.take(A) is Verdict.DONE
    request = here.backend.launched[A]
    assert (request.runner, request.max_duration_s) == ("runner", 60)
    assert request.input_data == {"auth_token": "hush"}
    assert here.claims.told == [(A, Workload("stub", {"id": A}))]


async def test_without_a_place_the_message_goes_back_unclaimed_and_the_lane_is_closed(
    here: Here,
) -> None:
    await here.take(A)
    assert await here.take(B) is Verdict.NO_ROOM
    assert (here.closed, here.claims.asked) == ([JobType.RECORDING], [A])
    assert await here.take(B, job_type=JobType.TRANSCRIBING) is Verdict.DONE, "a place of its own"


@pytest.mark.parametrize("mine", [False, None])
async def test_what_is_not_surely_this_workers_is_not_launched(here: Here, mine: Any) -> None:
    here.claims.mine = mine
    assert await here.take(A) is Verdict.DONE
    assert (here.backend.launched, here.claims.told) == ({}, [])
    assert here.books.free(JobType.RECORDING) == 1


async def test_a_refused_launch_is_told_and_its_place_free(here: Here) -> None:
    here.backend.refuse = "no such program"
    assert await here.take(A) is Verdict.DONE
    assert here.claims.told == [(A, "no such program")]
    assert here.books.free(JobType.RECORDING) == 1


async def test_a_message_that_is_in_work_and_comes_again_is_nothing_new(here: Here) -> None:
    here.claims.hold = asyncio.Event()
    first = asyncio.create_task(here.take(A))
    while not here.claims.asked:
        await asyncio.sleep(0)
    assert await here.take(A) is Verdict.DONE
    here.claims.hold.set()
    await first
    assert (here.claims.asked, len(here.claims.told)) == ([A], 1)


async def test_the_same_message_after_the_launch_is_answered_with_the_same_workload(
    here: Here,
) -> None:
    await here.take(A)
    await here.take(A)
    assert here.claims.told == [(A, Workload("stub", {"id": A}))] * 2
    assert len(here.backend.launched) == 1


async def test_a_second_launch_of_a_job_that_runs_is_refused(here: Here) -> None:
    await here.take(A)
    await here.take(A, message_id="m2")
    assert [type(outcome) for _, outcome in here.claims.told] == [Workload, str]


async def test_after_a_restart_in_mid_launch_the_message_finds_its_job(tmp_path: Path) -> None:
    class Dies(StubBackend):
        async def launch(self, request: LaunchRequest) -> Workload:
            await super().launch(request)
            raise asyncio.CancelledError  # the worker is killed when the job has just begun

    before = Here(tmp_path, Dies())
    with pytest.raises(asyncio.CancelledError):
        await before.take(A)
    after = Here(tmp_path, StubBackend(strangers=(A,)))
    await after.books.load()
    after.books.adopt(await after.backend.adopt(), ended=())
    assert after.books.entries[A].message_id == "m1"
    await after.take(A)
    assert after.claims.told == [(A, Workload("stub", {"id": A}))]
    assert after.backend.launched == {}


async def test_a_disk_that_is_full_fails_the_launch_by_name(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("offloader.worker.books.write_json", full)
    await here.take(A)
    [(job_id, why)] = here.claims.told
    assert (job_id, here.backend.launched) == (A, {})
    assert "No space left on device" in str(why)


async def test_a_message_of_another_key_or_job_is_dropped(here: Here) -> None:
    order = LaunchOrder(JobType.RECORDING, "runner", {}, 0, "http://service")
    for sealed in (order.sealed(Cipher("x" * 32), A), order.sealed(CIPHER, B), "", None):
        arguments = {"job_id": A, "sealed": sealed}
        assert await here.launching.take("m1", arguments) is Verdict.DONE
    assert await here.launching.take("m1", {}) is Verdict.DONE
    assert (here.claims.asked, here.backend.launched) == ([], {})


async def test_a_launch_that_is_refused_says_nothing_of_the_job(
    here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    here.backend.refuse = "refused"
    await here.take(A)
    assert "hush" not in "".join(capsys.readouterr())
