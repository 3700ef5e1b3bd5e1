"""A job whose files went with its host is finished from its copy, once, by whichever replica is there."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from foundation.clock import ManualClock
from foundation.copies.journal import Change, Entry, key_of
from foundation.copies.stores import DirectoryStore, StoreError
from offloader.backends.base import LaunchRequest, Observation, Phase
from offloader.backends.stub import StubBackend
from offloader.copies import JobCopies
from offloader.errors import BackendError
from offloader.lost_jobs import LostJobs
from offloader.models import Job, JobSpec, JobState, JobType, Publication, StopReason
from offloader.outbox import FIRST_WAIT, Outbox
from offloader.outbox_steps import NOBODY_ELSE_KNOWN, STILL_LIVES, entry_of
from offloader.store.memory import MemoryJobStore
from offloader.store.schema import job_from_row, job_to_row

SITE = "http://mattermost"
RESULT = "r" * 26
LOG = b'{"event": "started"}\n'


async def _away(_prefix: str) -> list[str]:
    raise StoreError("the bucket is away")


class Tokens:
    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        return "token-1"

    async def variables(self, job_id: str) -> dict[str, str]:
        return {}


class Bench:
    """An outbox with copies, and a lost job."""

    def __init__(self, directory: Path) -> None:
        self.clock = ManualClock()
        self.store = MemoryJobStore()
        self.backend = StubBackend()
        self.copies = DirectoryStore(directory / "claim")
        self.outbox = Outbox(
            store=self.store,
            backend=self.backend,
            tokens=Tokens(),
            clock=self.clock,
            max_age=timedelta(days=14),
            slots=2,
            copies=JobCopies(self.copies),
            host="here",
        )

    async def copy(self, *names: str) -> None:
        """As the job has copied them."""
        changes = [Change(name, 0, LOG, whole=True) for name in names]
        await self.copies.put(key_of(RESULT, 1), Entry(changes).encode())

    async def lose(self, *, files: bool = False, ended: bool = False) -> None:
        """A job that was lost with its host, its `files` or not; or `ended` before our eyes."""
        data = {"site_url": SITE, "recording_id": RESULT}
        workload = await self.backend.launch(LaunchRequest("j1", JobType.RECORDING, "r", data))
        self.backend.observations["j1"] = Observation(Phase.LOST, unpublished=files)
        if not files:
            self.backend.gone.add("j1")
        now = self.clock.utc_now()
        job = Job(
            "j1",
            "ann",
            JobSpec(JobType.RECORDING, "r", 60, data),
            now,
            state=JobState.FINISHED,
            stop_reason=StopReason.CRASHED if ended else StopReason.LOST,
            stopped_at=now,
            workload=workload,
            unpublished=True,
            host="there",
        )
        await self.store.reserve(job, admits=lambda *_: True)
        await self.outbox.check()
        await self.after(FIRST_WAIT)

    async def after(self, wait: timedelta) -> None:
        self.clock.advance(seconds=wait.total_seconds())
        await self.outbox.check()

    async def rescue_ends(self, code: int | None) -> None:
        phase = Phase.LOST if code is None else Phase.EXITED
        ended = Observation(phase, exit_code=code)
        self.backend.observations[f"j1/rescue-{len(self.backend.rescued)}"] = ended
        await self.outbox.check()

    async def salvage_ends(self, code: int | None) -> None:
        phase = Phase.LOST if code is None else Phase.EXITED
        ended = Observation(phase, exit_code=code)
        self.backend.observations[f"j1/salvage-{len(self.backend.salvaged)}"] = ended
        await self.outbox.check()

    async def job(self) -> Job:
        job = await self.store.get("j1")
        assert job is not None
        return job

    async def publication(self) -> Publication:
        return entry_of(await self.job()).publication


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_lost_job_is_rescued_with_the_newest_token_and_belongs_to_the_rescuer(
    bench: Bench,
) -> None:
    await bench.copy("job.json")
    await bench.lose()
    variables = {"AUTH_TOKEN": "token-1", "SITE_URL": SITE}
    assert bench.backend.rescued == [("j1", RESULT, variables)]
    assert (await bench.job()).host == "here"
    await bench.copies.remove(RESULT)
    await bench.rescue_ends(0)
    assert await bench.publication() is Publication.PUBLISHED
    assert not (await bench.job()).unpublished


async def test_files_that_are_there_are_salvaged_and_no_copy_is_asked_for(bench: Bench) -> None:
    await bench.copy("job.json")
    await bench.lose(files=True)
    assert (len(bench.backend.salvaged), len(bench.backend.rescued)) == (1, 0)


@pytest.mark.parametrize("code", [1, None], ids=["failed", "lost with its host"])
async def test_a_rescue_that_comes_to_nothing_is_repeated_as_long_as_there_is_a_copy(
    bench: Bench, code: int | None
) -> None:
    await bench.copy("job.json")
    await bench.lose()
    await bench.rescue_ends(code)
    assert await bench.publication() is Publication.WAITING
    await bench.after(timedelta(minutes=1))
    assert len(bench.backend.rescued) == 2


@pytest.mark.documents("its-copy-still-grows")
async def test_a_job_that_lives_is_left_alone_and_asked_for_again_every_minute(
    bench: Bench, documented: Any
) -> None:
    await bench.copy("job.json")
    await bench.lose()
    for _ in range(5):
        await bench.rescue_ends(STILL_LIVES)
        entry = entry_of(await bench.job())
        assert (entry.publication, entry.attempts) == (Publication.WAITING, 0)
        documented("its-copy-still-grows", entry.detail)
        await bench.after(timedelta(minutes=1))
    assert len(bench.backend.rescued) == 6


async def test_a_copy_that_the_living_job_has_removed_means_that_it_has_published(
    bench: Bench,
) -> None:
    await bench.copy("job.json")
    await bench.lose()
    await bench.rescue_ends(STILL_LIVES)
    await bench.copies.remove(RESULT)
    await bench.after(timedelta(minutes=1))
    assert await bench.publication() is Publication.PUBLISHED
    assert len(bench.backend.rescued) == 1


@pytest.mark.parametrize("left", [(), ("artifacts/poster.jpg",)], ids=["none", "artifacts alone"])
@pytest.mark.documents("its-files-are-out-of-reach")
async def test_without_a_copy_it_waits_for_its_host_and_is_given_up_when_too_old(
    bench: Bench, left: tuple[str, ...], documented: Any
) -> None:
    if left:
        await bench.copy(*left)
    await bench.lose()
    entry = entry_of(await bench.job())
    assert (entry.publication, entry.attempts) == (Publication.WAITING, 1)
    documented("its-files-are-out-of-reach", entry.detail)
    await bench.after(timedelta(days=15))
    assert bench.backend.rescued == []
    entry = entry_of(await bench.job())
    assert entry.publication is Publication.UNPUBLISHABLE
    assert "no copy" in entry.detail


async def test_a_host_that_comes_back_publishes_what_nobody_had_a_copy_of(bench: Bench) -> None:
    await bench.lose()
    bench.backend.gone.discard("j1")
    bench.backend.observations["j1"] = Observation(Phase.LOST, unpublished=True)
    await bench.after(timedelta(minutes=1))
    assert (len(bench.backend.salvaged), len(bench.backend.rescued)) == (1, 0)
    bench.backend.observations["j1"] = Observation(Phase.LOST)
    await bench.salvage_ends(0)
    published = await bench.job()
    assert not published.unpublished
    assert await LostJobs(bench.backend, None).artifacts(published) == [], "nothing of it is lost"


@pytest.mark.parametrize("phase", [Phase.EXITED, Phase.LOST])
async def test_an_end_counts_as_unpublished_while_nobody_knows_of_its_copy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    await bench.lose()
    monkeypatch.setattr(bench.copies, "names", _away)
    lost = LostJobs(bench.backend, JobCopies(bench.copies))
    code = 1 if phase is Phase.EXITED else None
    end = await lost.end_of(await bench.job(), Observation(phase, exit_code=code))
    assert end.unpublished


async def test_whose_a_job_of_a_lost_host_is_waits_for_the_store(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.copy("job.json")
    await bench.lose(files=True)
    lost = LostJobs(bench.backend, JobCopies(bench.copies))
    monkeypatch.setattr(bench.copies, "names", _away)
    job, now = await bench.job(), bench.clock.utc_now()
    with pytest.raises(BackendError, match="is away"):
        await lost.host_lost(job, here="here", now=now)


def entry(name: str, error: Exception) -> Any:
    """A row that says what it provokes."""
    return pytest.param(name, error, marks=pytest.mark.documents(name), id=name)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        entry("a-copy-that-cannot-be-read", StoreError("the bucket is away")),
        entry("a-copy-that-cannot-be-read/2", TimeoutError()),
    ],
)
async def test_a_store_that_is_away_costs_an_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, documented: Any, error: Exception, name: str
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(bench.copies, "names", away)
        await bench.lose()
    entry = entry_of(await bench.job())
    assert (entry.publication, entry.attempts) == (Publication.WAITING, 1)
    documented(name, entry.detail)


@pytest.mark.documents("nobody-knows-whether-its-copy-is-published")
async def test_a_salvage_that_could_not_ask_who_else_publishes_is_vouched_for_next_time(
    bench: Bench, documented: Any
) -> None:
    await bench.lose(files=True, ended=True)
    assert "PUBLISH_UNFENCED" not in bench.backend.salvaged[0][1]
    await bench.salvage_ends(NOBODY_ELSE_KNOWN)
    detail = entry_of(await bench.job()).detail
    documented("nobody-knows-whether-its-copy-is-published", detail)
    await bench.after(timedelta(minutes=1))
    assert bench.backend.salvaged[1][1]["PUBLISH_UNFENCED"] == "true"
    await bench.salvage_ends(1)
    await bench.after(timedelta(minutes=2))
    assert "PUBLISH_UNFENCED" not in bench.backend.salvaged[2][1]


async def test_after_a_vouched_attempt_that_nobody_saw_end_there_is_no_rescue(
    bench: Bench,
) -> None:
    await bench.copy("job.json")
    await bench.lose(files=True, ended=True)
    await bench.salvage_ends(NOBODY_ELSE_KNOWN)
    await bench.after(timedelta(minutes=1))
    bench.backend.gone.add("j1")
    await bench.salvage_ends(None)
    await bench.after(timedelta(minutes=2))
    assert bench.backend.rescued == []
    assert "may exist already" in entry_of(await bench.job()).detail


async def test_a_job_that_nobody_saw_end_is_not_vouched_for(bench: Bench) -> None:
    await bench.lose(files=True)
    await bench.salvage_ends(NOBODY_ELSE_KNOWN)
    await bench.after(timedelta(minutes=1))
    assert "PUBLISH_UNFENCED" not in bench.backend.salvaged[1][1]


async def test_a_rescue_is_never_vouched_for(bench: Bench) -> None:
    await bench.copy("job.json")
    await bench.lose()
    await bench.rescue_ends(NOBODY_ELSE_KNOWN)
    await bench.after(timedelta(minutes=1))
    assert "PUBLISH_UNFENCED" not in bench.backend.rescued[1][2]


async def test_an_uncertain_post_of_a_rescue_is_left_to_people(bench: Bench) -> None:
    await bench.copy("job.json")
    await bench.lose()
    await bench.rescue_ends(0)  # and the copy is there still
    assert await bench.publication() is Publication.UNPUBLISHABLE
    assert "may exist already" in entry_of(await bench.job()).detail


async def test_the_store_keeps_what_is_known_of_a_rescue(bench: Bench) -> None:
    await bench.copy("job.json")
    await bench.lose()
    job = await bench.job()
    assert job.outbox is not None
    kept = replace(job, outbox=replace(job.outbox, vouched=True))
    row: Any = job_to_row(kept)
    assert job_from_row(row).outbox == kept.outbox


@pytest.mark.parametrize("name", ["", "../x", "r" * 25, f"{'r' * 25}/", "R" * 26])
async def test_a_name_that_no_job_takes_is_no_place_in_the_store(bench: Bench, name: str) -> None:
    await bench.copy("job.json")
    job = Job(
        "j1",
        "ann",
        JobSpec(JobType.RECORDING, "r", 60, {"recording_id": name}),
        bench.clock.utc_now(),
    )
    copies = JobCopies(bench.copies)
    assert not await copies.hold_result(job)
    assert await copies.artifacts(job) == []
    await copies.remove(job)
    assert await bench.copies.names(RESULT)


async def test_erasing_a_copy_leaves_who_was_to_publish_it_until_the_record_goes(
    bench: Bench,
) -> None:
    await bench.copy("artifacts/poster.jpg")
    publisher = f"{RESULT}.publisher"
    await bench.copies.put(key_of(publisher, 1), b"rescuer")
    spec = JobSpec(JobType.RECORDING, "r", 60, {"recording_id": RESULT})
    job = Job("j1", "ann", spec, bench.clock.utc_now())
    copies = JobCopies(bench.copies)
    await copies.erase(job)
    assert not await bench.copies.names(RESULT)
    assert await bench.copies.names(publisher)
    await copies.remove(job)
    assert not await bench.copies.names(publisher)


@pytest.mark.documents("its-host-is-gone")
@pytest.mark.parametrize("copied", [True, False])
async def test_a_job_whose_host_is_gone_moves_to_whoever_rescues_it(
    bench: Bench, *, copied: bool, documented: Any
) -> None:
    if copied:
        await bench.copy("job.json")
    await bench.lose(files=True)
    live = replace(await bench.job(), state=JobState.RUNNING, stop_reason=None, unpublished=False)
    lost = LostJobs(bench.backend, JobCopies(bench.copies))
    step = await lost.host_lost(live, here="here", now=bench.clock.utc_now())
    ended = step(live)
    assert (ended.stop_reason, ended.unpublished) == (StopReason.LOST, True)
    assert ended.host == ("here" if copied else "there"), "without a copy it waits for its host"
    documented("its-host-is-gone", ended.detail)


# What clients are told, by a running service.


async def _lost_job(running: Any, **observed: Any) -> str:
    data = {"call_id": "c", "post_id": "p", "auth_token": "t", "recording_id": RESULT}
    job_id = await running.create_job(input_data=data)
    running.backend.observations[job_id] = Observation(Phase.LOST, detail="gone", **observed)
    running.backend.gone.add(job_id)
    await running.check()
    return str(job_id)


async def _get(running: Any, path: str) -> Any:
    return await running.http.get(path, headers=running.basic("plugin"))


async def test_files_and_log_of_a_lost_job_come_from_its_copy(start: Any, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "claim")
    content = bytes(range(256)) * 20
    first = [Change("job.json", 0, b"{}", whole=True), Change("part", 0, content[:2000], True)]
    await store.put(key_of(RESULT, 1), Entry(first).encode())
    second = [Change("part", 1500, content[1500:]), Change("job.log", 0, LOG, whole=True)]
    await store.put(key_of(RESULT, 2), Entry(second, previous=1).encode())
    running = await start(JOBS_APITYPE="process", JOBS_COPIESURL=f"file://{tmp_path}/claim")
    job_id = await _lost_job(running)
    details = (await _get(running, f"/jobs/{job_id}?details=1")).json()
    assert (details["unpublished"], details["stop_reason"]) == (True, "lost")
    listed = (await _get(running, f"/jobs/{job_id}/artifacts")).json()["artifacts"]
    assert {f["name"]: f["size_bytes"] for f in listed} == {
        f"{RESULT}/job.json": 2,
        f"{RESULT}/part": len(content),
        f"{RESULT}/job.log": len(LOG),
    }
    path = f"/jobs/{job_id}/artifacts/{RESULT}/part"
    assert (await _get(running, path)).content == content
    part = await running.http.get(
        path, headers={**running.basic("plugin"), "Range": "bytes=1490-1509"}
    )
    assert (part.status_code, part.content) == (206, content[1490:1510])
    told = (await _get(running, f"/jobs/{job_id}/logs")).content
    assert told.startswith(LOG)
    assert json.loads(told[len(LOG) :])["stage"] == "host"
    assert details["last_log_lines"] == [LOG.decode().strip()]


@pytest.mark.parametrize("copies", [False, True], ids=["no copies", "none of this job"])
@pytest.mark.documents("files-that-are-lost-for-good")
async def test_what_is_lost_for_good_is_answered_with_why(
    start: Any, tmp_path: Path, *, copies: bool, documented: Any
) -> None:
    address = f"file://{tmp_path}/claim" if copies else ""
    running = await start(JOBS_APITYPE="process", JOBS_COPIESURL=address)
    job_id = await _lost_job(running)
    refused = await _get(running, f"/jobs/{job_id}/artifacts")
    assert refused.status_code == 500
    text = "there is no copy" if copies else "jobs.copies_url"
    assert text in refused.text
    documented("files-that-are-lost-for-good", refused.json()["error"])
    assert text in (await _get(running, f"/jobs/{job_id}/logs")).text


async def test_with_its_record_a_job_s_copy_goes(start: Any, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "claim")
    await store.put(key_of(RESULT, 1), Entry([Change("artifacts/a", 0, b"a")]).encode())
    await store.put(f"{RESULT}.publisher/0000000001", b"{}")
    running = await start(JOBS_APITYPE="process", JOBS_COPIESURL=f"file://{tmp_path}/claim")
    job_id = await _lost_job(running)
    await running.http.delete(f"/jobs/{job_id}", headers=running.basic("plugin"))
    assert not any((tmp_path / "claim").iterdir())
