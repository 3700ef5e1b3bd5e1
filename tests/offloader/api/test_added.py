"""The routes beside the reference's: lists, stop, followed logs, files, publication, capacity, readiness."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from offloader.api.added import _exactly
from offloader.errors import BackendError
from offloader.models import OutboxEntry, Publication

ADMIN_KEY = "a" * 32
NO_JOB = "failed to get job failed to get job: error: not found"
OWN_ROUTES = (
    ("GET", "/jobs"),
    ("POST", "/jobs/{id}/stop"),
    ("GET", "/jobs/{id}/artifacts"),
    ("GET", "/jobs/{id}/artifacts/file"),
    ("POST", "/jobs/{id}/republish"),
    ("POST", "/jobs/{id}/retranscribe"),
    ("GET", "/capacity"),
    ("GET", "/events"),
)


@pytest.fixture
async def running(start) -> Any:
    return await start(
        JOBS_MAXCONCURRENTJOBS="3",
        API_SECURITY_ENABLEADMIN="true",
        API_SECURITY_ADMINSECRETKEY=ADMIN_KEY,
    )


async def listed(running, query: str = "", client: str = "plugin") -> Any:
    response = await running.http.get(f"/jobs{query}", headers=running.basic(client))
    assert response.status_code == 200, response.text
    return response.json()


async def finish(running, job_id: str, code: int = 0, **facts: Any) -> None:
    running.backend.exit(job_id, code, **facts)
    await running.check()


@pytest.mark.parametrize(("method", "path"), OWN_ROUTES)
async def test_no_added_route_registers_anybody(running, method: str, path: str) -> None:
    path = path.replace("{id}", "abcdef012345")
    for headers in (running.basic("unknown"), {}, {"Authorization": "Bearer x"}):
        response = await running.http.request(method, path, headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, "401")
    login = {"clientID": "unknown", "authKey": "k" * 32}
    assert (await running.http.post("/login", json=login)).status_code == 400


@pytest.mark.parametrize(("method", "path"), [route for route in OWN_ROUTES if "{id}" in route[1]])
async def test_another_clients_job_does_not_exist(running, method: str, path: str) -> None:
    job_id = await running.create_job(client="owner")
    await running.http.post("/jobs/init", json={}, headers=running.basic("other"))
    for wanted in (job_id, "abcdef012345", "short"):
        response = await running.http.request(
            method, path.replace("{id}", wanted), headers=running.basic("other")
        )
        assert (response.status_code, response.json()["error"]) == (404, NO_JOB)


async def test_a_list_has_the_clients_own_jobs_newest_first_and_the_admins_has_all(running) -> None:
    first = await running.create_job(call="one")
    running.clock.advance(seconds=1)
    second = await running.create_job(call="two", job_type="transcribing")
    other = await running.create_job(client="other")
    assert [job["id"] for job in (await listed(running))["jobs"]] == [second, first]
    admin = await running.http.get("/jobs", headers=running.basic("", ADMIN_KEY))
    assert {job["id"] for job in admin.json()["jobs"]} == {first, second, other}


async def test_whose_a_job_is_only_the_admin_is_told(running) -> None:
    job_id = await running.create_job(client="other")
    await running.check()
    admin, owner = running.basic("", ADMIN_KEY), running.basic("other")
    for method, path in (
        ("GET", f"/jobs/{job_id}?details=1"),
        ("GET", "/jobs"),
        ("POST", f"/jobs/{job_id}/stop"),
    ):
        for headers, told in ((admin, ["other"]), (owner, [])):
            document = (await running.http.request(method, path, headers=headers)).json()
            found = document.get("jobs", [document])
            assert [job["client_id"] for job in found if "client_id" in job] == told
    plain = (await running.http.get(f"/jobs/{job_id}", headers=admin)).json()
    assert "client_id" not in plain, "the wire's own form stays"


async def test_a_list_tells_state_end_and_what_to_do(running) -> None:
    job_id = await running.create_job()
    await running.check()
    (job,) = (await listed(running))["jobs"]
    assert (job["state"], job["stop_reason"], job["next_step"]) == ("running", None, "")
    await finish(running, job_id, 3, detail="disk full")
    (job,) = (await listed(running))["jobs"]
    assert (job["state"], job["stop_reason"], job["exit_code"]) == ("finished", "crashed", 3)
    assert job["detail"] == "disk full"
    assert "log lines" in job["next_step"]
    assert job["stop_at"] >= job["start_at"]


async def test_a_list_can_be_filtered_and_read_page_by_page(running) -> None:
    jobs = []
    for number in range(3):
        jobs.append(await running.create_job(call=f"call{number}"))
        running.clock.advance(seconds=10)
    await finish(running, jobs[0])
    assert [j["id"] for j in (await listed(running, "?state=finished"))["jobs"]] == jobs[:1]
    assert (await listed(running, "?type=transcribing"))["jobs"] == []
    newest = await running.get_job(jobs[2])
    since = f"?since={newest['start_at']}"
    assert [j["id"] for j in (await listed(running, since))["jobs"]] == jobs[2:]
    assert (await listed(running, "?since=2030-01-01T00:00:00Z"))["jobs"] == []
    seen, query = [], "?limit=1"
    while True:
        page = await listed(running, query)
        seen += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        query = f"?limit=1&before={page['next']}"
    assert seen == jobs[::-1]


@pytest.mark.parametrize(
    "query",
    [
        *("type=x", "state=dead", "since=yesterday", "since=2026-01-01", "since=1e9"),
        *("limit=0", "limit=501", "limit=x", "before=nonsense", "type=recording&type=recording"),
        *("before=%00", "before=%F0%9F", "since=99999999999999999"),
    ],
)
async def test_a_query_that_cannot_be_is_400_and_named(running, query: str) -> None:
    await running.create_job()
    response = await running.http.get(f"/jobs?{query}", headers=running.basic("plugin"))
    assert (response.status_code, response.json()["code"]) == (400, "400")
    assert query.partition("=")[0] in response.json()["error"]


async def test_a_stop_is_202_while_the_job_ends_and_200_when_it_has_ended(running) -> None:
    job_id = await running.create_job()
    await running.check()
    headers = running.basic("plugin")
    for _ in range(2):
        response = await running.http.post(f"/jobs/{job_id}/stop", headers=headers)
        assert response.status_code == 202
        assert (response.json()["state"], response.json()["stop_reason"]) == (
            "stopping",
            "requested",
        )
    await running.check()
    assert [stopped for stopped, _ in running.backend.stopped] == [job_id]
    await finish(running, job_id, 0)
    response = await running.http.post(f"/jobs/{job_id}/stop", headers=headers)
    assert (response.status_code, response.json()["stop_reason"]) == (200, "requested")


async def test_details_have_the_last_log_lines(running) -> None:
    job_id = await running.create_job()
    running.backend.log = b"".join(b"line %d\n" % n for n in range(50))
    headers = running.basic("plugin")
    response = await running.http.get(f"/jobs/{job_id}?details=1", headers=headers)
    assert response.json()["last_log_lines"] == [f"line {n}" for n in range(30, 50)]
    assert response.json()["state"] == "starting"
    plain = await running.http.get(f"/jobs/{job_id}?details=0", headers=headers)
    assert "state" not in plain.json()
    wrong = await running.http.get(f"/jobs/{job_id}?details=maybe", headers=headers)
    assert wrong.status_code == 400


async def test_the_log_of_an_ended_job_is_there_until_its_record_is_deleted(running) -> None:
    job_id = await running.create_job()
    running.backend.log = b"all of it\n"
    await finish(running, job_id, 1)
    headers = running.basic("plugin")
    for query in ("", "?follow=0", "?follow=1"):
        response = await running.http.get(f"/jobs/{job_id}/logs{query}", headers=headers)
        assert response.status_code == 200
        *lines, last = response.text.splitlines()
        assert lines == ["all of it"]
        assert json.loads(last)["event"] == "job.failure"
    assert (await running.http.delete(f"/jobs/{job_id}", headers=headers)).status_code == 200
    response = await running.http.get(f"/jobs/{job_id}/logs?follow=1", headers=headers)
    assert (response.status_code, response.json()["error"]) == (404, NO_JOB)


async def test_a_followed_log_streams_until_the_job_ends(serve, tmp_path) -> None:
    async with serve(tmp_path) as served:
        body = {"type": "recording", "runner": RECORDER, "max_duration_sec": 60}
        headers = served.basic("plugin")
        job_id = (await served.http.post("/jobs", json=body, headers=headers)).json()["id"]
        served.backend.log = b"first\n"
        got = b""
        path = f"/jobs/{job_id}/logs?follow=1"
        async with served.http.stream("GET", path, headers=headers) as response:
            async for chunk in response.aiter_raw():
                got += chunk
                if got == b"first\n":
                    served.backend.log += b"second\n"
                if got == b"first\nsecond\n":
                    served.backend.log += b"last"
                    served.backend.exit(job_id, 0)
        assert got == b"first\nsecond\nlast"


async def test_a_followed_log_ends_when_the_service_does(serve, tmp_path) -> None:
    async with serve(tmp_path) as served:
        body = {"type": "recording", "runner": RECORDER, "max_duration_sec": 60}
        headers = served.basic("plugin")
        job_id = (await served.http.post("/jobs", json=body, headers=headers)).json()["id"]
        served.backend.log = b"first\n"
        path = f"/jobs/{job_id}/logs?follow=1"
        async with served.http.stream("GET", path, headers=headers) as response:
            async for _ in response.aiter_raw():
                served.offloader.events.close()


RECORDER = "mattermost/calls-recorder:v0.8.13"


async def test_files_are_listed_and_downloaded_with_their_length(running) -> None:
    job_id = await running.create_job()
    running.backend.files = {"r1/part.mp4": b"x" * 1000, "r1/job.json": b"{}", "r1/ü.vtt": b"v"}
    headers = running.basic("plugin")
    response = await running.http.get(f"/jobs/{job_id}/artifacts", headers=headers)
    assert response.json()["artifacts"] == [
        {"name": "r1/job.json", "size_bytes": 2},
        {"name": "r1/part.mp4", "size_bytes": 1000},
        {"name": "r1/ü.vtt", "size_bytes": 1},
    ]
    path = f"/jobs/{job_id}/artifacts/r1/part.mp4"
    response = await running.http.get(path, headers=headers)
    assert (response.status_code, response.content) == (200, b"x" * 1000)
    assert response.headers["content-length"] == "1000"
    assert response.headers["content-type"] == "application/octet-stream"
    response = await running.http.get(f"/jobs/{job_id}/artifacts/r1/%C3%BC.vtt", headers=headers)
    assert response.content == b"v"


@pytest.mark.parametrize("name", ["no", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", "a%00b"])
async def test_a_file_that_the_job_did_not_leave_is_404(running, name: str) -> None:
    job_id = await running.create_job()
    path = f"/jobs/{job_id}/artifacts/{name}"
    response = await running.http.get(path, headers=running.basic("plugin"))
    assert (response.status_code, response.json()["code"]) == (404, "404")


async def test_a_file_that_grows_or_shrinks_meanwhile_is_never_passed_off_as_whole() -> None:
    async def chunks(*parts: bytes):
        for part in parts:
            yield part

    grown = [chunk async for chunk in _exactly(chunks(b"abc", b"def", b"ghi"), 4)]
    assert b"".join(grown) == b"abcd"
    with pytest.raises(BackendError):
        [chunk async for chunk in _exactly(chunks(b"abc"), 4)]


async def unpublished(running) -> str:
    job_id = await running.create_job()
    await running.check()
    await finish(running, job_id, 1, unpublished=True)
    return job_id


@pytest.mark.parametrize("body", [b"", b"{}", b'{"auth_token":"fresh-token"}', b"null"])
async def test_republishing_tries_now(running, body: bytes) -> None:
    job_id = await unpublished(running)
    path = f"/jobs/{job_id}/republish"
    response = await running.http.post(path, content=body, headers=running.basic("plugin"))
    assert response.status_code == 202, response.text
    assert response.json()["publication"]["state"] == "waiting"
    assert response.json()["unpublished"] is True
    assert "fresh-token" not in response.text
    await running.check()
    salvaged = [variables["AUTH_TOKEN"] for _, variables in running.backend.salvaged]
    if b"fresh" in body:
        assert salvaged == ["fresh-token"]


async def test_two_rounds_at_once_start_one_publication(running) -> None:
    path = f"/jobs/{await unpublished(running)}/republish"
    await running.http.post(path, headers=running.basic("plugin"))
    await asyncio.gather(running.check(), running.check())
    assert len(running.backend.salvaged) == 1


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"auth_token":1}', b'{"auth_token":"\\ud800"}'])
async def test_a_republication_that_cannot_be_read_is_400(running, body: bytes) -> None:
    path = f"/jobs/{await unpublished(running)}/republish"
    response = await running.http.post(path, content=body, headers=running.basic("plugin"))
    assert (response.status_code, response.json()["code"]) == (400, "400")


async def test_there_is_nothing_to_republish_of_a_live_or_published_job(running) -> None:
    job_id = await running.create_job()
    headers = running.basic("plugin")
    for _ in range(2):
        response = await running.http.post(f"/jobs/{job_id}/republish", headers=headers)
        assert (response.status_code, response.json()["code"]) == (409, "409")
        await finish(running, job_id, 0)


def test_the_next_step_follows_the_publication() -> None:
    from datetime import UTC, datetime

    from offloader.advice import next_step
    from offloader.models import Job, JobSpec, JobState, JobType, StopReason

    spec = JobSpec(JobType.RECORDING, "r", 60, {})
    job = Job("abcdef012345", "c", spec, datetime.now(UTC), JobState.FINISHED, StopReason.CRASHED)
    assert "log lines" in next_step(job)
    left = replace(job, unpublished=True)
    assert "/jobs/abcdef012345/republish" in next_step(left)
    given_up = replace(left, outbox=OutboxEntry(Publication.UNPUBLISHABLE))
    assert "/jobs/abcdef012345/artifacts" in next_step(given_up)
    assert next_step(replace(job, state=JobState.RUNNING)) == ""


async def test_capacity_counts_calls_and_tells_of_the_drain(running) -> None:
    running.backend.free_disk = 10**10
    await running.create_job(call="one")
    await running.create_job(call="one", job_type="transcribing")
    headers = running.basic("admin", ADMIN_KEY)
    capacity = (await running.http.get("/capacity", headers=headers)).json()
    wanted = {"limit": 3, "calls_in_progress": 1, "free": 2, "jobs": 2, "draining": False}
    assert capacity == wanted | {
        "free_disk_bytes": 10**10,
        "min_free_disk_bytes": capacity["min_free_disk_bytes"],
        "least_disk_bytes": None,
    }
    running.offloader.entrance.close()
    capacity = (await running.http.get("/capacity", headers=headers)).json()
    assert (capacity["draining"], capacity["free"]) == (True, 0)


async def test_a_client_s_capacity_tells_of_its_own_calls_and_nothing_of_the_host(running) -> None:
    running.backend.free_disk = 10**10
    await running.create_job(call="one")
    await running.create_job(call="two", client="other")
    shown = (await running.http.get("/capacity", headers=running.basic("plugin"))).json()
    assert shown == {
        **{"limit": 3, "calls_in_progress": 1, "free": 1, "jobs": 1, "draining": False},
        **{"free_disk_bytes": None, "min_free_disk_bytes": None, "least_disk_bytes": None},
    }


async def test_ready_means_that_jobs_can_be_taken(running) -> None:
    response = await running.http.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})
    running.backend.unusable = "dockerd does not answer"
    response = await running.http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reasons"] == [
        "the stub backend cannot be used: dockerd does not answer"
    ]
    running.backend.unusable = ""
    running.offloader.entrance.close()
    response = await running.http.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "503")
    assert response.json()["error"] == "not ready: the service is draining"
    assert (await running.http.get("/healthz")).status_code == 200


@pytest.mark.looptime
async def test_what_does_not_answer_in_time_is_not_ready() -> None:
    from offloader.backends.stub import StubBackend
    from offloader.condition import Condition
    from offloader.store.memory import MemoryJobStore

    class Stuck(StubBackend):
        async def check_usable(self) -> None:
            await asyncio.sleep(3600)

    class Open:
        closed = False

    condition = Condition(store=MemoryJobStore(), backend=Stuck(), entrance=Open())
    assert await condition.obstacles() == ["the stub backend does not answer"]


async def test_times_beside_the_wires_own_are_rfc_3339_in_utc(running: Any) -> None:
    job_id = await running.create_job(max_duration_sec=60)
    answer = await running.http.get(f"/jobs/{job_id}?details=1", headers=running.basic("plugin"))
    document = answer.json()
    times = document["times"]
    assert (times["stopped"], times["next_attempt"]) == (None, None)
    assert (times["retranscription_requested"], times["retranscription_ended"]) == (None, None)
    for name, ms in (("created", document["start_at"]), ("deadline", document["deadline_at"])):
        assert times[name].endswith("Z")
        assert round(datetime.fromisoformat(times[name]).timestamp() * 1000) == ms
