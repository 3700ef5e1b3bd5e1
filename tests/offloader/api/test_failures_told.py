"""The owner and the admin of a failed job are told the same of it; nobody else anything."""

from __future__ import annotations

import json

import pytest
import structlog

from clientauth.service import Identity
from offloader.errors import StoreError
from offloader.models import Job


async def test_a_job_that_could_not_begin_says_why_in_api_lists_and_log(running) -> None:
    job_id = await running.create_job()
    reason = "no media within 10 s; pairs tried: udp a → b failed"
    lines = [
        {"event": "start.failed", "level": "error", "reason": reason},
        {"event": "metrics", "level": "info", "final": True, "start_failed": 1},
    ]
    running.backend.log = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    running.backend.exit(job_id, 0)
    with structlog.testing.capture_logs() as logs:
        await running.check()
    [line] = [line for line in logs if line["event"] == "job.finished"]
    assert (line["stage"], line["detail"]) == ("media", reason)
    assert "8443" in line["next_step"]
    headers = running.basic("plugin")
    job = (await running.http.get(f"/jobs/{job_id}?details=1", headers=headers)).json()
    assert job["failure"]["stage"] == "media"
    assert job["failure"]["evidence"]["candidate_pairs"] == ["udp a → b failed"]
    assert job["next_step"] == job["failure"]["next_step"]
    [listed] = (await running.http.get("/jobs", headers=headers)).json()["jobs"]
    assert listed["failure"] == job["failure"]
    last = (await running.http.get(f"/jobs/{job_id}/logs", headers=headers)).text.splitlines()[-1]
    assert json.loads(last)["cause"] == job["failure"]["cause"]
    plain = (await running.http.get(f"/jobs/{job_id}", headers=headers)).json()
    assert "failure" not in plain, "the plugin's own route is as it was"
    stranger = await running.http.get(f"/jobs/{job_id}?details=1", headers=running.basic("other"))
    assert stranger.status_code == 404


async def test_a_job_that_ended_well_has_no_failure_and_its_log_no_line_more(running) -> None:
    job_id = await running.create_job()
    running.backend.log = b'{"event": "x", "level": "error", "reason": "got over"}\n'
    running.backend.exit(job_id, 0)
    await running.check()
    headers = running.basic("plugin")
    job = (await running.http.get(f"/jobs/{job_id}?details=1", headers=headers)).json()
    assert (job["failure"], job["next_step"], job["detail"]) == (None, "", "")
    log = (await running.http.get(f"/jobs/{job_id}/logs", headers=headers)).content
    assert log == running.backend.log


async def test_a_log_is_whole_although_nobody_can_say_how_its_job_ended(
    running, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await running.create_job()
    running.backend.log = b"a line\n"
    service = running.offloader.service
    store = service._store
    job = await store.get(job_id)
    answers = [job]

    async def get_once(_: str) -> Job:
        if not answers:
            raise StoreError("gone")
        return answers.pop()

    monkeypatch.setattr(store, "get", get_once)
    chunks = await service.logs(job_id, client=Identity("plugin", registration=job.registration))
    assert [chunk async for chunk in chunks] == [b"a line\n"]


async def test_a_job_that_is_not_let_in_is_explained_in_the_services_log(start) -> None:
    running = await start(JOBS_MAXCONCURRENTJOBS="1")
    await running.create_job()
    with structlog.testing.capture_logs() as logs:
        response = await running.post_job(call="call2", post="post2")
    assert response.json()["error"] == "failed to create recording job: max concurrent jobs reached"
    [line] = [line for line in logs if line["event"] == "job.refused"]
    assert (line["stage"], line["detail"]) == ("admission", "max concurrent jobs reached")
    assert "jobs.max_concurrent_jobs" in line["next_step"]


async def test_only_the_admin_is_told_where_a_job_runs(start) -> None:
    admin = "a" * 32
    running = await start(API_SECURITY_ENABLEADMIN="true", API_SECURITY_ADMINSECRETKEY=admin)
    job_id = await running.create_job()
    mine = await running.http.get(f"/jobs/{job_id}?details=1", headers=running.basic("plugin"))
    assert "host" not in mine.json()
    theirs = await running.http.get(f"/jobs/{job_id}?details=1", headers=running.basic("x", admin))
    assert theirs.json()["host"] == ""
