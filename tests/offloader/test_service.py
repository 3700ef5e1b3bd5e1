from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from clientauth.service import Identity
from foundation.clock import ManualClock
from offloader.admission import AdmissionPolicy
from offloader.backends.base import LaunchRequest
from offloader.backends.stub import StubBackend
from offloader.entrance import Entrance
from offloader.errors import CreationFailed, JobNotFound, LaunchFailed
from offloader.job_wish import JobWish
from offloader.lifecycle import launched, not_started
from offloader.models import Job, JobState, StopReason, Workload
from offloader.retranscription import Retranscriber
from offloader.service import JobService
from offloader.settings import load_settings
from offloader.store.memory import MemoryJobStore, MemorySecretStore

CLIENT = Identity("client")


def make_service(store: MemoryJobStore, backend: StubBackend) -> JobService:
    settings = load_settings(Path("/nonexistent"), {"JOBS_MAXCONCURRENTJOBS": "10"}).jobs
    clock = ManualClock()
    entrance = Entrance(
        store=store,
        policy=AdmissionPolicy(settings.max_concurrent_jobs),
        free_disk=backend.free_disk_bytes,
        clock=clock,
        wait_s=0,
    )
    retranscriber = Retranscriber(
        store=store, backend=backend, secrets=MemorySecretStore(), clock=clock, slots=1
    )
    return JobService(
        settings=settings,
        store=store,
        backend=backend,
        entrance=entrance,
        clock=clock,
        retranscriber=retranscriber,
    )


def wish(call: str, job_type: str = "recording") -> JobWish:
    input_data = {"call_id": call, "post_id": "p", "auth_token": "hidden-token"}
    return JobWish(job_type, "mattermost/calls-recorder:v1.0.0", 60, input_data)


async def test_a_job_that_could_not_be_launched_is_kept_with_its_reason_as_its_only_log_line() -> (
    None
):
    store = MemoryJobStore()
    service = make_service(store, StubBackend(refuse="disk is full"))
    with pytest.raises(CreationFailed, match="disk is full"):
        await service.create(wish("c"), client=CLIENT)
    [job] = store._jobs.values()
    assert (job.state, job.stop_reason) == (JobState.FINISHED, StopReason.START_FAILED)
    assert (job.detail, job.workload) == ("disk is full", None)
    [line] = [chunk async for chunk in await service.logs(job.id, client=CLIENT)]
    assert json.loads(line)["stage"] == "launch"
    await service.delete(job.id, client=CLIENT)
    with pytest.raises(JobNotFound):
        await service.get(job.id, client=CLIENT)


async def test_secrets_reach_the_backend_and_nothing_that_is_kept() -> None:
    store, backend = MemoryJobStore(), StubBackend()
    job = await make_service(store, backend).create(wish("c"), client=CLIENT)
    assert backend.launched[job.id].input_data["auth_token"] == "hidden-token"
    assert "hidden-token" not in repr(store._jobs)
    assert "hidden-token" not in repr(backend.launched)


async def test_of_a_hundred_calls_at_once_as_many_as_fit_get_in_each_with_its_sibling(
    start,
) -> None:
    running = await start(JOBS_MAXCONCURRENTJOBS="10")
    await running.post_job(call="0")  # the client is registered before the crowd comes
    calls = [f"{number}" for number in range(1, 100)]
    answers = await asyncio.gather(*(running.post_job(call=call) for call in calls))
    admitted = [c for c, answer in zip(calls, answers, strict=True) if answer.status_code == 200]
    assert len(admitted) == 9
    siblings = await asyncio.gather(
        *(running.post_job(call=call, job_type="transcribing") for call in ["0", *admitted])
    )
    assert [answer.status_code for answer in siblings] == [200] * 10
    refused = await asyncio.gather(
        *(running.post_job(call=call, job_type="transcribing") for call in calls)
    )
    assert {answer.status_code for answer in refused} == {500}


async def test_both_jobs_of_one_call_at_once_hold_one_place(start) -> None:
    running = await start(JOBS_MAXCONCURRENTJOBS="1")
    answers = await asyncio.gather(
        running.post_job(job_type="recording"), running.post_job(job_type="transcribing")
    )
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_place_is_held_while_the_backend_launches() -> None:
    class SlowBackend(StubBackend):
        async def launch(self, request):
            await asyncio.sleep(0)
            return await super().launch(request)

    store = MemoryJobStore()
    service = make_service(store, SlowBackend())
    results = await asyncio.gather(
        *(service.create(wish(f"{n}"), client=CLIENT) for n in range(30)), return_exceptions=True
    )
    assert sum(isinstance(result, Job) for result in results) == 10


async def test_the_token_of_a_new_job_publishes_what_an_older_one_could_not(start) -> None:
    running = await start()
    site = {"call_id": "c", "post_id": "p", "site_url": "http://mattermost"}
    old = {**site, "auth_token": "old-token"}
    first = await running.create_job(input_data=old)
    running.backend.exit(first, 1, unpublished=True)
    await running.check()
    assert running.backend.salvaged == []
    new = {**site, "call_id": "d", "auth_token": "new-token"}
    await running.create_job(input_data=new)
    await running.check()
    assert running.backend.salvaged == [
        (first, {"AUTH_TOKEN": "new-token", "SITE_URL": "http://mattermost"})
    ]


class TakenOver(StubBackend):
    """While it launches, another replica does `change` to the job."""

    def __init__(self, store: MemoryJobStore, change: Callable[[Job], Job]) -> None:
        super().__init__()
        self._store, self._change = store, change

    async def launch(self, request: LaunchRequest) -> Workload:
        workload = await super().launch(request)
        await self._store.change(request.job_id, self._change)
        if self.refuse_late:
            raise LaunchFailed("no answer")
        return workload

    refuse_late = False


@pytest.mark.documents("a-launch-that-was-given-up")
async def test_what_is_launched_after_its_job_was_given_up_is_stopped(documented) -> None:
    store = MemoryJobStore()
    gave_up = partial(not_started, detail="gone", now=ManualClock().utc_now())
    backend = TakenOver(store, gave_up)
    with pytest.raises(CreationFailed) as refused:
        await make_service(store, backend).create(wish("c"), client=CLIENT)
    documented("a-launch-that-was-given-up", f"failed to create recording job: {refused.value}")
    [job] = store._jobs.values()
    assert [job_id for job_id, _ in backend.stopped] == [job.id]
    assert (job.state, job.detail) == (JobState.FINISHED, "gone")


@pytest.mark.parametrize("refuse_late", [False, True])
async def test_a_launch_that_another_replica_found_first_is_a_launch(refuse_late: bool) -> None:
    store = MemoryJobStore()
    backend = TakenOver(store, partial(launched, workload=Workload("stub", {"id": "x"})))
    backend.refuse_late = refuse_late
    job = await make_service(store, backend).create(wish("c"), client=CLIENT)
    assert job.state is JobState.STARTING
    assert backend.stopped == []
