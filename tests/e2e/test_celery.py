"""Job services and workers on a real broker: who runs what, exactly once, and what is said of it."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import httpx
import pytest

from testbed.fleet import Fleet, Host, Service

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.paired, pytest.mark.timeout(150)]

NOTICED_S = 15.0
"""A lost worker, from its kill to the job's state."""
HUNG_NOTICED_S = 25.0
"""One that hangs: each question to it takes seconds to fail."""
HEALTHY_S = 10.0
"""A job's polite end beside it."""
BOTH = pytest.mark.parametrize("fleet", ["redis_server", "rabbitmq"], indirect=True)


async def _pair(fleet: Fleet, **environ: str) -> tuple[Service, Host, Host]:
    """A service and two workers with one place each, which it knows of."""
    service, one, two = await asyncio.gather(
        fleet.start_service(**environ), fleet.start_worker("one"), fleet.start_worker("two")
    )
    await service.knows_places(2)
    return service, one, two


async def _pair_in_calls(fleet: Fleet) -> tuple[Service, Host, Host]:
    """Such a pair with a job of a call on each worker."""
    service, one, two = await _pair(fleet)
    ids = [await service.create(call) for call in ("a", "b")]
    for job_id in ids:
        await service.in_state(job_id, "running")
    return service, one, two


def _host_of(job_id: str, *hosts: Host) -> Host:
    """The only one that has it."""
    (found,) = (host for host in hosts if job_id in host.jobs())
    return found


@BOTH
async def test_each_call_goes_to_a_worker_with_room_and_a_third_is_refused_by_name(
    fleet: tuple[Fleet, Any],
) -> None:
    hosts, _ = fleet
    service, one, two = await _pair(hosts, JOBS_ADMISSIONWAITS="0")
    for round_ in range(3):
        calls = [f"call{round_}{side}" for side in "ab"]
        ids = await asyncio.gather(*(service.create(call) for call in calls))
        for job_id in ids:
            await service.in_state(job_id, "running")
        assert {_host_of(job_id, one, two).name for job_id in ids} == {"one", "two"}

        refused = await service.ask("third")
        assert refused.status_code == httpx.codes.INTERNAL_SERVER_ERROR
        assert "max concurrent jobs" in refused.text.lower()

        for job_id in ids:
            _host_of(job_id, one, two).finish(job_id)
        for job_id, call in zip(ids, calls, strict=True):
            ended = await service.in_state(job_id, "finished")
            assert (ended["stop_reason"], ended["exit_code"]) == ("completed", 0)
            assert hosts.runs_of(call) == 1
    assert hosts.runs_of("third") == 0


@BOTH
async def test_a_worker_killed_in_mid_call_is_noticed_in_time_with_state_and_reason(
    fleet: tuple[Fleet, Any],
) -> None:
    hosts, _ = fleet
    service, one, two = await _pair_in_calls(hosts)
    (lost,) = one.jobs()
    (kept,) = two.jobs()

    one.kill_all()
    killed_s = time.monotonic()
    ended = await service.in_state(lost, "finished")
    took_s = time.monotonic() - killed_s
    assert ended["stop_reason"] == "lost"
    assert "its worker one has not been heard of since" in ended["detail"]
    assert took_s < NOTICED_S
    await service.knows_places(1)
    assert (await service.details(kept))["state"] == "running"
    two.finish(kept)
    assert (await service.in_state(kept, "finished"))["stop_reason"] == "completed"


async def test_a_worker_that_hangs_delays_nobody_and_its_job_is_lost_in_time(
    fleet: tuple[Fleet, Any],
) -> None:
    hosts, _ = fleet
    service, one, two = await _pair_in_calls(hosts)
    (hung,) = one.jobs()
    (other,) = two.jobs()

    one.process.send_signal(signal.SIGSTOP)  # connects, and does not answer
    frozen_s = time.monotonic()
    await asyncio.sleep(7)  # until its log was asked for, too
    answer = await service.http.post(f"/jobs/{other}/stop")
    assert answer.status_code == httpx.codes.ACCEPTED
    stopped = await service.in_state(other, "finished", limit_s=HEALTHY_S)
    assert (stopped["stop_reason"], stopped["exit_code"]) == ("requested", 0)
    lost = await service.in_state(hung, "finished")
    took_s = time.monotonic() - frozen_s
    assert lost["stop_reason"] == "lost"
    assert took_s < HUNG_NOTICED_S
    one.process.send_signal(signal.SIGCONT)
    one.finish(hung)


async def test_a_draining_worker_takes_nothing_new_and_ends_with_its_last_job(
    fleet: tuple[Fleet, Any],
) -> None:
    hosts, _ = fleet
    service, one, two = await _pair(hosts, JOBS_ADMISSIONWAITS="0")
    ids = [await service.create(call) for call in ("a", "b")]
    for job_id in ids:
        await service.in_state(job_id, "running")
    (old,) = one.jobs()
    (other,) = two.jobs()
    await one.terminate()
    await one.has_said("worker: draining")
    refused = await service.ask("none")
    assert refused.status_code == httpx.codes.INTERNAL_SERVER_ERROR, "both calls go on"
    two.finish(other)
    await service.in_state(other, "finished")
    new = await service.create("c")
    await service.in_state(new, "running")
    assert new in two.jobs()
    assert (await service.details(old))["state"] == "running"
    assert one.process.returncode is None

    one.finish(old)
    ended = await service.in_state(old, "finished")
    assert (ended["stop_reason"], ended["exit_code"]) == ("completed", 0)
    assert await one.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_service_that_ends_in_mid_call_finds_its_jobs_again(
    fleet: tuple[Fleet, Any], number: signal.Signals
) -> None:
    hosts, _ = fleet
    service, one, two = await _pair_in_calls(hosts)
    ids = [*one.jobs(), *two.jobs()]
    service.process.send_signal(number)
    assert await service.ended() == (0 if number is signal.SIGTERM else -number)
    port = int(service.url.rpartition(":")[2])
    again = await hosts.start_service(port=port)
    for job_id in ids:
        assert (await again.details(job_id))["state"] == "running"
    answer = await again.http.post(f"/jobs/{ids[0]}/stop")
    assert answer.status_code == httpx.codes.ACCEPTED
    stopped = await again.in_state(ids[0], "finished")
    assert (stopped["stop_reason"], stopped["exit_code"]) == ("requested", 0)
    assert "told to stop" in (await again.http.get(f"/jobs/{ids[0]}/logs")).text
    _host_of(ids[1], one, two).finish(ids[1])
    assert (await again.in_state(ids[1], "finished"))["stop_reason"] == "completed"
    assert [hosts.runs_of(call) for call in ("a", "b")] == [1, 1]


async def test_a_worker_killed_and_started_again_has_its_job_as_before(
    fleet: tuple[Fleet, Any],
) -> None:
    hosts, _ = fleet
    service, one, _two = await _pair(hosts, JOBS_ADMISSIONWAITS="0")
    ids = [await service.create(call) for call in ("a", "b")]
    for job_id in ids:
        await service.in_state(job_id, "running")
    (job_id,) = one.jobs()
    port = int(one.url.rpartition(":")[2])
    await one.kill()  # what it started runs on
    one = await hosts.start_worker("one", port=port)
    await service.knows_places(2)
    assert (await service.details(job_id))["state"] == "running"
    refused = await service.ask("c")
    assert refused.status_code == httpx.codes.INTERNAL_SERVER_ERROR, "it holds its place"
    one.finish(job_id)
    assert (await service.in_state(job_id, "finished"))["stop_reason"] == "completed"


async def test_two_replicas_and_two_workers_make_one_recording_of_one_call(
    postgres: Any, fleet: tuple[Fleet, Any]
) -> None:
    hosts, _ = fleet
    database = postgres.new_database()
    first, second, one, two = await asyncio.gather(
        hosts.start_service("first", STORE_DATASOURCE=database),
        hosts.start_service("second", STORE_DATASOURCE=database),
        hosts.start_worker("one"),
        hosts.start_worker("two"),
    )
    for replica in (first, second):
        await replica.knows_places(2)
    answers = await asyncio.gather(
        *(replica.ask("one-call", key="k") for replica in (first, second) for _ in range(3))
    )
    assert {answer.status_code for answer in answers} == {httpx.codes.OK}
    (job_id,) = {answer.json()["id"] for answer in answers}
    await second.in_state(job_id, "running")
    host = _host_of(job_id, one, two)

    # Whoever of both watches the job: the other one takes over.
    owner, survivor = (first, second) if first.said("job.launched") else (second, first)
    await owner.kill()
    answer = await survivor.http.post(f"/jobs/{job_id}/stop")
    assert answer.status_code == httpx.codes.ACCEPTED
    ended = await survivor.in_state(job_id, "finished")
    assert (ended["stop_reason"], ended["exit_code"]) == ("requested", 0)
    assert "told to stop" in (await survivor.http.get(f"/jobs/{job_id}/logs")).text
    assert hosts.runs_of("one-call") == 1
    assert host.jobs() == {job_id}


async def test_jobs_sent_to_a_label_go_to_hosts_that_have_it(fleet: tuple[Fleet, Any]) -> None:
    hosts, _ = fleet
    service, plain, labelled = await asyncio.gather(
        hosts.start_service(JOBS_CELERY_LABELS='{"transcribing": "gpu"}'),
        hosts.start_worker("plain", slots=3),
        hosts.start_worker("labelled", slots=3, WORKER_LABELS="gpu", WORKER_ONLYLABELLED="true"),
    )
    await service.knows_places(3)
    for call in ("a", "b", "c"):
        recording = await service.create(call)
        transcribing = await service.create(call, "transcribing")
        for job_id, host in ((recording, plain), (transcribing, labelled)):
            await service.in_state(job_id, "running")
            assert job_id in host.jobs()


async def test_a_lost_job_that_is_found_running_is_left_to_publish_by_itself(
    fleet: tuple[Fleet, Any],
) -> None:
    hosts, _ = fleet
    script = (
        'if [ "$0" = salvage ]; then touch $DATA_DIR/../salvaged; exit 0; fi; '
        "mkdir -p $DATA_DIR/r; touch $DATA_DIR/r/job.json; "
        "while [ ! -e $DATA_DIR/go ]; do sleep 0.05; done; rm -r $DATA_DIR/r"
    )
    service, host = await asyncio.gather(
        hosts.start_service(), hosts.start_worker("one", script=script)
    )
    await service.knows_places(1)
    job_id = await service.create("a", site_url="http://site")
    await service.in_state(job_id, "running")
    await host.kill()  # its job runs on
    assert (await service.in_state(job_id, "finished"))["stop_reason"] == "lost"
    assert (await service.details(job_id))["unpublished"]

    host = await hosts.start_worker("one", script=script, port=int(host.url.rpartition(":")[2]))
    await service.knows_places(1)
    await service.http.post(f"/jobs/{job_id}/republish")
    async with asyncio.timeout(60):
        while "runs still" not in str((await service.details(job_id))["publication"]):
            await asyncio.sleep(0.5)
    host.finish(job_id)
    async with asyncio.timeout(30):
        while (await service.details(job_id))["unpublished"]:
            await service.http.post(f"/jobs/{job_id}/republish")
            await asyncio.sleep(0.5)
    assert not (host.directory / "jobs" / job_id / "salvaged").exists()
    assert hosts.runs_of("a") == 1
