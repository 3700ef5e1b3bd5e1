"""After a change of jobs.api_type: what the backend before left is published where it can be reached, named
where it cannot, and keeps no other job from anything."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from foundation.clock import ManualClock
from offloader.backends.former import WithFormer
from offloader.backends.process_reference import NOBODY, process_workload
from offloader.backends.stub import StubBackend
from offloader.models import (
    Job,
    JobSpec,
    JobState,
    JobType,
    OutboxEntry,
    Publication,
    Retranscription,
    RetranscriptionState,
    StopReason,
    Workload,
)
from offloader.outbox import FIRST_WAIT, Outbox
from offloader.outbox_steps import entry_of
from offloader.settings import load_settings
from offloader.store.memory import MemoryJobStore, MemorySecretStore

FROZEN = Path(__file__).parents[1] / "fixtures" / "job_directories" / "v1"
JOB = "q1w2e3r4t5z6"
SITE = "https://chat.example.com"
GONE = process_workload(Path("/nowhere") / JOB, NOBODY)
PUBLISHES = 'test "$1" = salvage && rm -r "$2"'


def ended(job_id: str, workload: Workload, *, clock: ManualClock, client: str = "ann") -> Job:
    """One that left a result."""
    now = clock.utc_now()
    spec = JobSpec(JobType.RECORDING, "r", 60, {"site_url": SITE, "auth_token": "***"})
    job = Job(job_id, client, spec, now, state=JobState.FINISHED, stopped_at=now, exit_code=1)
    return replace(job, stop_reason=StopReason.CRASHED, workload=workload, unpublished=True)


async def test_a_result_in_a_job_directory_of_this_host_is_published_under_another_backend(
    tmp_path: Path,
) -> None:
    jobs_dir = shutil.copytree(FROZEN, tmp_path / "jobs")
    environ = {"JOBS_APITYPE": "docker", "JOBS_PROCESS_JOBSDIR": str(jobs_dir)}
    settings = load_settings(Path("/nonexistent"), environ).jobs
    command = ("/bin/sh", "-c", PUBLISHES, "sh")
    settings = replace(settings, process=replace(settings.process, recorder_command=command))
    clock = ManualClock()
    store, secrets = MemoryJobStore(clock=clock), MemorySecretStore(clock=clock)
    backend = WithFormer(StubBackend(name="docker"), settings=settings, environ=os.environ)
    outbox = Outbox(
        store=store, backend=backend, tokens=secrets, clock=clock, max_age=None, slots=1
    )
    job = ended(JOB, process_workload(jobs_dir / JOB, NOBODY), clock=clock)
    await store.reserve(job, admits=lambda *_: True)
    await secrets.put_secret(JOB, "ann", SITE, "t0ken")
    await outbox.check()
    clock.advance(seconds=FIRST_WAIT.total_seconds())
    async with asyncio.timeout(25):
        while (found := await store.get(JOB)) is not None and found.unpublished:
            await outbox.check()
            await asyncio.sleep(0.01)
    assert found is not None
    assert entry_of(found).publication is Publication.PUBLISHED


async def test_one_that_is_out_of_reach_is_named_and_others_are_published(start: Any) -> None:
    running = await start(
        backend=StubBackend(name="docker"), JOBS_POSTCALLSLOTS="1", JOBS_OUTBOXMAXAGE="14d"
    )
    store = running.offloader.service._store
    under_way = OutboxEntry(Publication.RUNNING, attempts=1, workload=GONE)
    former = ended(JOB, GONE, clock=running.clock, client="plugin")
    attempted = replace(former, id="a" * 12, outbox=under_way)
    job_id = await running.create_job(input_data={"site_url": SITE, "auth_token": "t0ken"})
    for job in (former, attempted):
        await store.reserve(job, admits=lambda *_: True)
    running.backend.exit(job_id, 1, unpublished=True)
    await running.check()
    await running.check()
    running.clock.advance(seconds=FIRST_WAIT.total_seconds())
    await running.check()
    await running.check()
    assert [job for job, _ in running.backend.salvaged] == [job_id]
    for days in (1, 30, 300):
        running.clock.advance(seconds=timedelta(days=days).total_seconds())
        await running.check()
    for job in (former, attempted):
        shown = await running.http.get(f"/jobs/{job.id}?details=1", headers=running.basic("plugin"))
        told = shown.json()
        assert shown.status_code == 200, told
        assert told["unpublished"]
        assert "jobs.api_type = 'process', which is 'docker' now" in told["publication"]["detail"]
        assert told["publication"]["attempts"] == (1 if job is attempted else 0)
        assert "out of reach" in str(told["failure"]["evidence"])


async def test_a_live_one_that_is_out_of_reach_gives_up_its_place_and_nothing_else(
    start: Any,
) -> None:
    running = await start(backend=StubBackend(name="docker"), JOBS_MAXCONCURRENTJOBS="1")
    store = running.offloader.service._store
    over = ended(JOB, GONE, clock=running.clock)
    live = Job(JOB, "ann", over.spec, over.created_at, state=JobState.RUNNING, workload=GONE)
    await store.reserve(live, admits=lambda *_: True)
    await running.check()
    lost = await store.get(JOB)
    assert (lost.state, lost.stop_reason) == (JobState.FINISHED, StopReason.LOST)
    assert lost.unpublished, "for nobody knows"
    assert "which is 'docker' now" in lost.detail
    await running.create_job()


async def test_its_transcription_that_was_under_way_fails_and_takes_no_place(start: Any) -> None:
    running = await start(backend=StubBackend(name="docker"), JOBS_POSTCALLSLOTS="1")
    store = running.offloader.service._store
    now = running.clock.utc_now()
    wish = Retranscription("again-1", {}, publish=False, requested_at=now)
    wish = replace(wish, state=RetranscriptionState.RUNNING, workload=GONE)
    job = replace(ended(JOB, GONE, clock=running.clock), retranscription=wish)
    await store.reserve(job, admits=lambda *_: True)
    await running.check()
    found = await store.get(JOB)
    assert found.retranscription.state is RetranscriptionState.FAILED
    assert "which is 'docker' now" in found.retranscription.detail


async def test_an_attempt_of_it_takes_no_place_from_what_is_to_be_transcribed_again(
    start: Any,
) -> None:
    running = await start(backend=StubBackend(name="docker"), JOBS_POSTCALLSLOTS="1")
    store = running.offloader.service._store
    under_way = OutboxEntry(Publication.RUNNING, attempts=1, workload=GONE)
    await store.reserve(
        replace(ended(JOB, GONE, clock=running.clock), outbox=under_way), admits=lambda *_: True
    )
    own = Workload("docker", {"id": "a" * 12})
    running.backend.exit("a" * 12, 0)
    wish = Retranscription("again-1", {}, publish=False, requested_at=running.clock.utc_now())
    job = replace(ended("a" * 12, own, clock=running.clock), retranscription=wish)
    await store.reserve(replace(job, unpublished=False), admits=lambda *_: True)
    await running.check()
    assert [job_id for job_id, _ in running.backend.retranscribed] == ["a" * 12]
