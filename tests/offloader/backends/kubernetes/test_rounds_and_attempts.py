"""What a round of the supervisor meets: refusals that pass, other clocks, slow logs; and the attempts on a
job's files, by several replicas.
"""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from foundation.clock import ManualClock
from offloader.backends.base import Phase
from offloader.backends.kubernetes import api
from offloader.backends.kubernetes.options import Reference
from offloader.errors import BackendError, FilesGone, LaunchFailed, WorkloadBusy
from offloader.models import JobType, Workload


@pytest.mark.slow
async def test_a_quota_that_others_change_too_only_takes_time(services) -> None:
    """The server answers 409 then, and there is nothing of that name."""
    services.cluster.fail("POST", "/jobs", 409, times=2)
    services.cluster.fail("POST", "/secrets", 409, times=2)
    backend = services.backend("exit 0")
    workload = await services.launch(backend)
    assert (await services.ended(backend, workload)).exit_code == 0


async def test_a_server_that_cannot_be_asked_now_is_no_reason_never_to_try_again(
    services, monkeypatch
) -> None:
    monkeypatch.setattr(api, "_GIVE_UP_S", 0.05)
    services.cluster.fail("POST", "/jobs", 503, times=99)
    with pytest.raises(BackendError) as refused:
        await services.launch(services.backend())
    assert not isinstance(refused.value, LaunchFailed)


async def test_an_end_that_cannot_be_written_down_is_reported_all_the_same(services) -> None:
    backend = services.backend("exit 3")
    workload = await services.launch(backend)
    services.cluster.fail("PATCH", "/jobs", 403, times=99)
    assert (await services.ended(backend, workload)).exit_code == 3


async def test_a_round_does_not_wait_for_the_rest_of_a_log(services) -> None:
    written = asyncio.Event()
    services.cluster.fail("GET", "/log", held=written)
    backend = services.backend("echo bye; exit 3")
    workload = await services.launch(backend)
    async with asyncio.timeout(20):
        while not backend._view.has_ended(backend._view.known_job(Reference.of(workload).name)):
            await asyncio.sleep(0.01)
    assert (await backend.poll(workload)).phase is Phase.RUNNING, "who reads it now would wait"
    written.set()
    assert (await services.ended(backend, workload)).exit_code == 3
    assert await services.log(backend, workload) == "bye\n"


@pytest.mark.slow
async def test_of_two_replicas_at_once_one_makes_the_attempt(services) -> None:
    script = 'if [ "$0" = salvage ]; then sleep 0.3; exit 1; fi; '
    script += "mkdir $DATA_DIR/r1; touch $DATA_DIR/r1/job.json; exit 1"
    replicas = [services.backend(script), services.backend(script)]
    workload = await services.launch(replicas[0])
    for backend in replicas:
        await services.ended(backend, workload)
    made = await asyncio.gather(
        *(b.salvage(workload, job_type=JobType.RECORDING, variables={}) for b in replicas),
        return_exceptions=True,
    )
    assert {type(each) for each in made} == {Workload, WorkloadBusy}


async def test_the_clocks_of_service_and_server_need_not_agree(services) -> None:
    services.cluster.kubelet.nodes = False
    ahead = ManualClock(utc=datetime.now(UTC) + timedelta(days=1))
    backend = services.backend(clock=ahead)
    workload = await services.launch(backend)
    seen = await services.until(backend, workload, Phase.STARTING, Phase.EXITED)
    assert seen.phase is Phase.STARTING, seen.detail


async def test_long_lists_are_parsed_beside_the_event_loop(services, monkeypatch) -> None:
    threads: list[bool] = []

    def loads(content: bytes) -> object:
        threads.append(threading.current_thread() is threading.main_thread())
        return json.loads(content)

    monkeypatch.setattr(api, "_MUCH_JSON_BYTES", 0)
    monkeypatch.setattr(api, "json", SimpleNamespace(loads=loads))
    await services.backend().check_usable()
    assert threads == [False]


@pytest.mark.slow
async def test_attempts_never_share_a_name_and_go_with_the_job(services) -> None:
    script = 'if [ "$0" = salvage ]; then exit 1; fi; '
    script += "mkdir $DATA_DIR/r1; touch $DATA_DIR/r1/job.json; exit 1"
    backend = services.backend(script)
    workload = await services.launch(backend)
    await services.ended(backend, workload)
    names = []
    for _ in range(2):
        attempt = await backend.salvage(workload, job_type=JobType.RECORDING, variables={})
        assert (await services.ended(backend, attempt)).exit_code == 1
        cluster = services.cluster
        (job,) = [
            thing
            for thing in cluster.objects.all("jobs")
            if "calls-offloader.salvage" in thing["metadata"]["labels"]
        ]
        names.append(job["metadata"]["name"])
        cluster.objects.remove("jobs", job)  # its time to live was over
        await services.until(backend, attempt, Phase.LOST)
    assert names[0] != names[1]
    await backend.remove(workload)
    assert list((services.claim_dir / "default").iterdir()) == []


NO_CLAIM = {
    "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME": "",
    "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR": "",
    "JOBS_COPIESURL": "s3://copies/calls",
}


async def test_what_an_empty_dir_held_is_rescued_from_its_copy_by_a_pod_of_its_own(
    services,
) -> None:
    script = 'echo "$0 $1 $COPIES_URL $FILES_GO_WITH_JOB $AUTH_TOKEN"; exit 1'
    backend = services.backend(script, **NO_CLAIM)
    workload = await services.launch(backend)
    await services.ended(backend, workload)
    assert "s3://copies/calls true sesame" in await services.log(backend, workload)
    with pytest.raises(FilesGone, match="emptyDir"):
        await backend.salvage(workload, job_type=JobType.RECORDING, variables={})
    rescued = await backend.rescue(
        workload, job_type=JobType.RECORDING, result="r" * 26, variables={"AUTH_TOKEN": "new"}
    )
    assert (await services.ended(backend, rescued.attempt)).exit_code == 1
    said = f"rescue {'r' * 26} s3://copies/calls true new"
    assert said in await services.log(backend, rescued.attempt)
    await backend.remove(rescued.workload)
