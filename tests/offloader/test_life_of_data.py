"""What is removed, when, and what never, in any order of holds, deletions, publications and absent hosts."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from foundation.clock import ManualClock
from foundation.file_manifest import next_line
from offloader.backends.base import Observation, Phase
from offloader.backends.process import ProcessBackend
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError, JobIsHeld, JobIsRunning, JobNotFound
from offloader.lost_jobs import LostJobs
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    OutboxEntry,
    Publication,
    StopReason,
    Workload,
)
from offloader.orphans import sweep_orphans
from offloader.removal import Removal, held, released
from offloader.retention import HOST_MAY_RETURN, Retention
from offloader.settings import ProcessSettings, load_settings
from offloader.spent_tokens import erase_spent_tokens
from offloader.store.base import JobStore, Lease, SecretStore
from offloader.store.memory import MemoryJobStore, MemorySecretStore
from offloader.store.stores import open_stores

SITE = "https://chat.example.com"
HERE = Lease("me", host="here")
FROZEN = Path(__file__).parents[1] / "fixtures" / "job_directories" / "v1-failed"


@dataclass
class Bench:
    """One replica's sweeps on a store and a stub backend."""

    store: JobStore
    secrets: SecretStore
    clock: ManualClock
    keep: str = "0"
    backend: StubBackend = field(default_factory=StubBackend)
    made: int = 0

    def __post_init__(self) -> None:
        lost = LostJobs(self.backend, None)
        self.removal = Removal(
            store=self.store,
            backend=self.backend,
            lost=lost,
            clock=self.clock,
            secrets=self.secrets,
            lease=HERE,
        )
        environ = {
            "JOBS_KEEPPUBLISHED": self.keep,
            "JOBS_COMPLETEDJOBSRETENTIONTIME": "1d",
            "JOBS_FAILEDJOBSRETENTIONTIME": "30d",
        }
        self.retention = Retention(
            settings=load_settings(Path("/nonexistent"), environ).jobs,
            store=self.store,
            backend=self.backend,
            clock=self.clock,
            removal=self.removal,
            lease=HERE,
        )

    async def job(self, *, host: str = "here", **changes: object) -> Job:
        self.made += 1
        now = self.clock.utc_now()
        data = {"call_id": "c" * 26, "site_url": SITE, "auth_token": "***"}
        plain = Job(
            f"{self.made:012x}",
            "ann",
            JobSpec(JobType.RECORDING, "runner", 60, data),
            now,
            state=JobState.FINISHED,
            stop_reason=StopReason.COMPLETED,
            stopped_at=now,
            exit_code=0,
        )
        job = replace(plain, workload=Workload("stub", {"id": plain.id}), **changes)  # type: ignore[arg-type]  # fields of several types
        if job.exit_code == 0 and not job.unpublished and "published_at" not in changes:
            job = replace(job, published_at=now)
        self.backend.observations[job.id] = Observation(
            Phase.EXITED, exit_code=0, unpublished=job.unpublished
        )
        await self.store.reserve(job, admits=lambda *_: True, lease=replace(HERE, host=host))
        await self.secrets.put_secret(job.id, "ann", SITE, "token")
        return await self.stored(job.id)

    async def stored(self, job_id: str) -> Job:
        found = await self.store.get(job_id)
        assert found is not None
        return found

    async def clean(self, **time: float) -> None:
        """Erase the tokens that nobody needs."""
        self.clock.advance(seconds=timedelta(**time).total_seconds())
        await erase_spent_tokens(store=self.store, secrets=self.secrets)

    async def sweep(self, **time: float) -> None:
        self.clock.advance(seconds=timedelta(**time).total_seconds())
        await self.retention.sweep()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("sqlite", marks=pytest.mark.slow),
        pytest.param("postgres", marks=pytest.mark.slow),
    ]
)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    clock = ManualClock()
    if request.param == "memory":
        yield Bench(MemoryJobStore(clock=clock), MemorySecretStore(clock=clock), clock)
        return
    source = str(tmp_path / "store.db")
    if request.param == "postgres":
        source = request.getfixturevalue("postgres").new_database()
    async with open_stores(source, environ={}, state_dir=tmp_path, clock=clock) as opened:
        yield Bench(opened.jobs, opened.secrets, clock)


async def test_files_of_a_published_job_go_at_once_and_its_record_with_its_own_retention(
    bench: Bench,
) -> None:
    job = await bench.job()
    await bench.sweep()
    assert bench.backend.erased == [job.id]
    after = await bench.stored(job.id)
    assert (after.left_bytes, after.erased_at) == (0, bench.clock.utc_now())
    await bench.sweep(hours=1)
    assert bench.backend.erased == [job.id]
    await bench.sweep(days=1)
    assert await bench.store.get(job.id) is None


async def test_published_files_stay_as_long_as_somebody_wants_them_after_their_publication(
    bench: Bench,
) -> None:
    bench.keep = "2h"
    bench.__post_init__()
    entry = OutboxEntry(Publication.PUBLISHED)
    late = bench.clock.utc_now() + timedelta(hours=3)
    first = await bench.job()
    salvaged = await bench.job(exit_code=1, outbox=entry, published_at=late)
    await bench.sweep(minutes=119)
    assert bench.backend.erased == []
    await bench.sweep(minutes=1)
    assert bench.backend.erased == [first.id]
    await bench.sweep(hours=3)
    assert bench.backend.erased == [first.id, salvaged.id]


async def test_files_that_an_earlier_release_kept_stay_as_long_as_their_record(
    bench: Bench,
) -> None:
    bench.backend.files = {"r/artifacts/speaker-01.ogg": b"voice"}
    by_itself = await bench.job(published_at=None)
    by_outbox = await bench.job(exit_code=1, outbox=OutboxEntry(Publication.PUBLISHED))
    await bench.sweep()
    await bench.sweep(hours=23)
    assert bench.backend.erased == bench.backend.removed == []
    await bench.sweep(hours=2)
    assert bench.backend.removed == [by_itself.id]
    await bench.sweep(days=29)
    assert bench.backend.removed == [by_itself.id, by_outbox.id]
    assert bench.backend.erased == []


async def test_what_is_not_published_is_measured_and_never_erased(bench: Bench) -> None:
    bench.backend.files = {"r/job.json": b"{}", "r/part.mp4": b"x" * 998}
    waiting = await bench.job(unpublished=True)
    failed = await bench.job(exit_code=1)
    assert await bench.store.unpublished_bytes() == 0
    for _ in range(20):
        await bench.sweep(days=1)
    assert bench.backend.erased == bench.backend.removed == []
    assert await bench.store.unpublished_bytes() == 1000
    for job in (waiting, failed):
        assert (await bench.stored(job.id)).left_bytes == 1000


def manifest(*events: str) -> bytes:
    lines = b""
    for event in events:
        lines += next_line(lines, {"event": event, "files": []})
    return lines


async def test_a_job_that_crashed_after_its_post_left_nothing_but_artifacts_which_go(
    bench: Bench,
) -> None:
    bench.backend.files = {
        "r/artifacts/speaker-01.ogg": b"voice",
        "r/artifacts/manifest.jsonl": manifest("tried", "kept"),
    }
    job = await bench.job(exit_code=139)
    await bench.sweep()
    assert bench.backend.erased == [job.id]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"r/artifacts/manifest.jsonl": manifest("transcribed again")},
        {"r/artifacts/manifest.jsonl": b'{"event":"kept"}\n'},
        {"r/manifest.jsonl": manifest("kept")},
        {"r/artifacts/again-1/manifest.jsonl": manifest("kept")},
    ],
)
async def test_artifacts_of_a_failed_job_stay_unless_its_manifest_tells_of_its_post(
    bench: Bench, files: dict[str, bytes]
) -> None:
    bench.backend.files = {"r/artifacts/speaker-01.ogg": b"voice", **files}
    job = await bench.job(exit_code=139)
    for _ in range(29):
        await bench.sweep(days=1)
    assert bench.backend.erased == bench.backend.removed == []
    assert (await bench.stored(job.id)).published_at is None
    await bench.sweep(days=1)
    assert bench.backend.removed == [job.id], "as everything of a failed one"


async def test_what_a_failed_job_of_the_release_before_kept_outlives_an_upgrade(
    bench: Bench, tmp_path: Path
) -> None:
    jobs_dir = shutil.copytree(FROZEN, tmp_path / "jobs")
    settings = ProcessSettings(jobs_dir, "", ("true",), ("true",), 300.0, 64 * 1024)
    backend = ProcessBackend(settings, environ=os.environ)
    bench.backend = backend  # type: ignore[assignment]  # the real one, on the files of a real one
    bench.__post_init__()
    ((job_id, workload),) = (await backend.adopt()).items()
    end = await backend.poll(workload)
    assert (end.phase, end.exit_code, end.unpublished) == (Phase.EXITED, 139, False)
    now = bench.clock.utc_now()
    data = {"call_id": "c" * 26, "site_url": SITE, "keep_audio": "true"}
    spec = JobSpec(JobType.TRANSCRIBING, "runner", 60, data)
    old = Job(job_id, "ann", spec, now, state=JobState.FINISHED, stopped_at=now, workload=workload)
    old = replace(old, stop_reason=StopReason.CRASHED, exit_code=139)
    await bench.store.reserve(old, admits=lambda *_: True, lease=HERE)
    before = sorted(path for path in jobs_dir.rglob("*") if path.is_file())
    assert len(before) == 5
    for _ in range(29):
        await bench.sweep(days=1)
    assert sorted(path for path in jobs_dir.rglob("*") if path.is_file()) == before


async def test_files_out_of_reach_are_erased_when_they_can_be_reached(bench: Bench) -> None:
    bench.backend.unreachable = "the engine is down"
    job = await bench.job()
    with structlog.testing.capture_logs() as lines:
        await bench.sweep()
    assert [line["event"] for line in lines] == ["job.removal_failed"]
    assert (await bench.stored(job.id)).left_bytes is None
    bench.backend.unreachable = ""
    await bench.sweep(minutes=1)
    assert (await bench.stored(job.id)).left_bytes == 0


async def test_a_job_of_a_backend_that_was_here_before_keeps_no_other_from_its_sweep(
    bench: Bench,
) -> None:
    former = await bench.job()
    await bench.store.change(
        former.id, lambda job: replace(job, workload=Workload("docker", {"job_id": job.id}))
    )
    later = await bench.job()
    with structlog.testing.capture_logs() as lines:
        await bench.sweep()
    assert [line["job_id"] for line in lines if line["log_level"] == "error"] == [former.id]
    assert bench.backend.erased == [later.id]


async def test_a_deletion_takes_record_files_and_token_and_no_token_waits_for_a_host(
    bench: Bench,
) -> None:
    job, away = await bench.job(), await bench.job()
    assert await bench.removal.delete(job)
    assert bench.backend.removed == [job.id]
    assert await bench.store.get(job.id) is None
    bench.backend.unreachable = "the engine is down"
    assert not await bench.removal.delete(away)
    assert not await bench.removal.delete(away)
    for gone in (job, away):
        assert await bench.secrets.secret(gone.id) is None
    assert [left.id for left in await bench.store.to_delete()] == [away.id]
    bench.backend.unreachable = ""
    await bench.sweep()
    assert await bench.store.get(away.id) is None


async def test_a_deleted_jobs_token_stays_while_another_result_is_to_be_published_with_it(
    bench: Bench,
) -> None:
    waits, older = await bench.job(unpublished=True), await bench.job()
    elsewhere, newest = await bench.job(unpublished=True), await bench.job()
    await bench.store.change(
        elsewhere.id,
        lambda job: replace(
            job, spec=replace(job.spec, input_data={"site_url": "https://other.example.com"})
        ),
    )
    await bench.secrets.put_secret(newest.id, "ann", SITE, "newest")
    assert await bench.removal.delete(older)
    assert await bench.secrets.secret(older.id) is None, "a newer one is there"
    assert await bench.removal.delete(newest)
    assert await bench.secrets.newest_secret("ann", SITE) == "newest"
    await bench.clean(minutes=2)
    assert await bench.secrets.newest_secret("ann", SITE) == "newest"
    await bench.store.change(waits.id, partial(published, bench=bench))
    await bench.clean(minutes=2)
    assert await bench.secrets.newest_secret("ann", SITE) is None


async def test_no_token_stays_for_a_result_that_is_to_be_deleted_itself(bench: Bench) -> None:
    waits, newest = await bench.job(unpublished=True), await bench.job()
    await bench.secrets.put_secret(newest.id, "ann", SITE, "newest")
    bench.backend.unreachable = "the engine is down"
    for job in (newest, waits):
        assert not await bench.removal.delete(job)
    await bench.clean(minutes=2)
    assert await bench.secrets.newest_secret("ann", SITE) is None


@pytest.mark.documents("a-job-whose-files-cannot-be-removed/2")
async def test_what_lies_on_another_host_is_removed_there_or_when_it_comes_back(
    bench: Bench, documented: Any
) -> None:
    job = await bench.job(host="there", unpublished=True)
    with structlog.testing.capture_logs() as lines:
        assert not await bench.removal.delete(job)
    documented("a-job-whose-files-cannot-be-removed/2", lines[-1]["error"])
    await bench.sweep()
    assert bench.backend.removed == []
    assert (await bench.stored(job.id)).deletion_at is not None
    await bench.sweep(days=HOST_MAY_RETURN.days)
    assert bench.backend.removed == []
    assert await bench.store.get(job.id) is None
    assert await bench.store.was_deleted(job.id)
    # The host is back: what lies there belongs to no job, and goes although it is not published.
    bench.backend.strangers = (job.id,)
    now = bench.clock.utc_now()
    left = await sweep_orphans(backend=bench.backend, store=bench.store, kept_for=None, now=now)
    assert (left, bench.backend.removed) == (0, [job.id])
    bench.clock.advance(seconds=366 * 86400)
    assert not await bench.store.was_deleted(job.id)


async def test_files_that_stay_on_a_lost_worker_are_said_to_and_not_forgotten(bench: Bench) -> None:
    bench.backend.left_behind = "worker a is lost, with the files"
    job = await bench.job()
    assert not await bench.removal.delete(job)
    assert await bench.store.get(job.id) is None
    assert await bench.store.was_deleted(job.id)


async def test_a_held_job_is_neither_deleted_nor_swept_until_it_is_released(bench: Bench) -> None:
    job = await bench.job()
    await bench.store.change(job.id, partial(held, hold="case 7"))
    with pytest.raises(JobIsHeld, match="case 7"):
        await bench.removal.delete(job)
    with pytest.raises(JobIsHeld):
        await bench.removal.erase(job)
    await bench.sweep(days=400)
    assert bench.backend.erased == bench.backend.removed == []
    assert await bench.secrets.secret(job.id) == "token"
    await bench.store.change(job.id, released)
    await bench.sweep()
    assert await bench.store.get(job.id) is None


async def test_it_is_too_late_to_hold_what_is_being_deleted(bench: Bench) -> None:
    bench.backend.unreachable = "the engine is down"
    job = await bench.job()
    await bench.removal.delete(job)
    assert (await bench.store.change(job.id, partial(held, hold="case 7"))).hold == ""


async def test_any_order_of_wishes_keeps_what_is_held_or_unpublished_and_removes_the_rest(
    bench: Bench,
) -> None:
    """By a model that knows each job's fate; the engine is away now and then."""
    chance = random.Random(7)
    steps = 400 if isinstance(bench.store, MemoryJobStore) else 20
    bench.backend.files = {"r/job.json": b"{}"}
    jobs: dict[str, Job] = {}
    hold: set[str] = set()
    doomed: set[str] = set()
    for _ in range(steps):
        bench.backend.unreachable = chance.choice(("", "", "the engine is down"))
        wish = chance.choice(("new", "new", "hold", "release", "delete", "publish", "time"))
        if wish == "new":
            job = await bench.job(unpublished=chance.random() < 0.5)
            jobs[job.id] = job
        elif wish == "time":
            bench.clock.advance(seconds=chance.choice((60, 3600, 86400)))
        elif jobs:
            job_id = chance.choice(sorted(jobs))
            present = await bench.store.get(job_id)
            with suppress(JobNotFound, JobIsHeld, JobIsRunning, BackendError):
                if wish == "hold" and present is not None:
                    if (await bench.store.change(job_id, partial(held, hold="x"))).hold:
                        hold.add(job_id)
                elif wish == "release" and present is not None:
                    await bench.store.change(job_id, released)
                    hold.discard(job_id)
                elif wish == "publish" and present is not None:
                    await bench.store.change(job_id, partial(published, bench=bench))
                elif wish == "delete" and present is not None:
                    await bench.removal.delete(present)
                    doomed.add(job_id)
        before = {job_id: await bench.store.get(job_id) for job_id in jobs}
        erased, removed = len(bench.backend.erased), len(bench.backend.removed)
        await bench.retention.sweep()
        swept = {*bench.backend.erased[erased:], *bench.backend.removed[removed:]}
        for job_id in swept:
            known = before[job_id]
            assert job_id not in hold
            assert job_id in doomed or (known is not None and not known.unpublished)
        assert not hold & doomed
        if not bench.backend.unreachable:
            for job_id in jobs:
                left = await bench.store.get(job_id)
                if job_id in doomed:
                    assert left is None
                elif left is not None and job_id not in hold and not left.unpublished:
                    assert left.left_bytes == 0


def published(job: Job, *, bench: Bench) -> Job:
    """As the outbox says it."""
    now = bench.clock.utc_now()
    return replace(job, unpublished=False, published_at=now, left_bytes=None)
