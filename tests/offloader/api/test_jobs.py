"""Every row of job-service.md 1 about jobs, over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from offloader.backends.base import Observation, Phase

RECORDER = "mattermost/calls-recorder:v0.8.13"
TRANSCRIBER = "mattermost/calls-transcriber:v0.7.2"
NO_SUCH_JOB = "failed to get job failed to get job: error: not found"
NO_SUCH_LOG = "failed to get recording job logs: no such job"


def config(**changes: Any) -> dict[str, Any]:
    full = {"type": "recording", "runner": RECORDER, "max_duration_sec": 3600, "input_data": {}}
    return {name: value for name, value in (full | changes).items() if value is not ...}


async def test_version_needs_no_authentication_and_passes_the_plugins_check(running) -> None:
    response = await running.http.get("/version")
    assert response.status_code == 200
    document = response.json()
    assert set(document) >= {"buildDate", "buildVersion", "buildHash", "goVersion"}
    major = int(document["buildVersion"].removeprefix("v").split(".")[0])
    assert major >= 1


NOT_THERE = (
    ("POST", "/version"),
    ("GET", "/register"),
    ("GET", "/unregister"),
    ("PUT", "/login"),
    ("GET", "/jobs/init"),
    ("PUT", "/jobs"),
    ("POST", "/jobs/abcdef012345"),
    ("DELETE", "/jobs/abcdef012345/logs"),
    ("GET", "/"),
    ("GET", "/jobs/"),
    ("GET", "/docs"),
    ("GET", "/debug/pprof/heap"),
)


async def test_unknown_paths_and_methods_are_404(running) -> None:
    for method, path in NOT_THERE:
        response = await running.http.request(method, path, headers=running.basic("plugin"))
        assert (response.status_code, response.json()["code"]) == (404, "404"), path
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("member", ["Runners", "runners", "RUNNERS"])
async def test_init_prepares_the_runners_and_answers_nothing(running, member: str) -> None:
    body = {member: [RECORDER, TRANSCRIBER]}
    response = await running.http.post("/jobs/init", json=body, headers=running.basic("plugin"))
    assert (response.status_code, response.content) == (200, b"")
    assert running.backend.prepared == [[RECORDER, TRANSCRIBER]]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "invalid job service config: invalid empty Runners"),
        ({"Runners": []}, "invalid job service config: invalid empty Runners"),
        ({"Runners": None}, "invalid job service config: invalid empty Runners"),
        ({"Runners": [""]}, "invalid job service config: runner should not be empty"),
        ({"Runners": ["x"]}, 'invalid job service config: failed to validate runner "x"'),
        (
            {"Runners": ["mattermost/calls-recorder:v0.1.0"]},
            "invalid job service config: actual version (0.1.0) is lower than minimum supported "
            "version (0.6.0)",
        ),
    ],
)
async def test_init_refuses_runners_that_cannot_be(running, body: Any, text: str) -> None:
    response = await running.http.post("/jobs/init", json=body, headers=running.basic("plugin"))
    assert response.status_code == 400
    assert response.json() == {"error": text, "code": "400"}
    assert running.backend.prepared == []


async def test_a_created_job_is_answered_with_200_and_everything_the_client_sent(running) -> None:
    input_data = {"call_id": "c", "width": 1280, "auth_token": "hidden", "live": True}
    response = await running.post_job(input_data=input_data)
    assert response.status_code == 200
    document = response.json()
    job_id = document.pop("id")
    assert len(job_id) == 12
    assert set(job_id) <= set("0123456789abcdef")
    assert document == {
        "type": "recording",
        "runner": RECORDER,
        "max_duration_sec": 3600,
        "input_data": input_data | {"auth_token": "***"},
        "start_at": int(datetime(2026, 1, 31, 10, tzinfo=UTC).timestamp() * 1000),
    }
    assert running.backend.launched[job_id].input_data == input_data


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"type": ""}, "invalid Type value: should not be empty"),
        ({"type": ..., "runner": ""}, "invalid Type value: should not be empty"),
        ({"runner": ""}, "invalid Runner value: runner should not be empty"),
        ({"runner": ..., "type": "x"}, "invalid Runner value: runner should not be empty"),
        ({"runner": "x"}, 'invalid Runner value: failed to validate runner "x"'),
        (
            {"runner": "mattermost/calls-recorder:v0.1.0", "max_duration_sec": 0},
            "invalid Runner value: actual version (0.1.0) is lower than minimum supported version "
            "(0.6.0)",
        ),
        ({"max_duration_sec": 0, "type": "x"}, "invalid MaxDurationSec value: should be positive"),
        ({"max_duration_sec": -5}, "invalid MaxDurationSec value: should be positive"),
        ({"max_duration_sec": ...}, "invalid MaxDurationSec value: should be positive"),
        ({"max_duration_sec": 2**40}, "invalid MaxDurationSec value: should be at most 2147483647"),
        ({"type": "x"}, 'invalid Type value: "x"'),
        (
            {"input_data": {"call_id": "a\0b"}},
            'invalid InputData value: "call_id" should not hold a NUL character',
        ),
    ],
)
async def test_a_wrong_job_is_refused_in_the_contracts_order(
    running, changes: dict[str, Any], text: str
) -> None:
    response = await running.http.post(
        "/jobs", json=config(**changes), headers=running.basic("plugin")
    )
    assert response.status_code == 400
    assert response.json() == {"error": text, "code": "400"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff",
        b'{"max_duration_sec": NaN}',
        b'{"max_duration_sec": 1.5}',
        b'{"max_duration_sec": "60"}',
        b'{"max_duration_sec": true}',
        b'{"type": 7}',
        b'{"input_data": []}',
        b'{"input_data": {"a": "\\ud800"}}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"max_duration_sec": ' + b"9" * 5000 + b"}",
    ],
)
async def test_a_body_that_cannot_be_read_is_400_with_a_reason(running, body: bytes) -> None:
    response = await running.http.post("/jobs", content=body, headers=running.basic("plugin"))
    assert response.status_code == 400
    assert response.json()["code"] == "400"
    assert response.json()["error"].startswith("failed to decode request body: ")


async def test_members_are_matched_in_any_letter_case_and_unknown_ones_ignored(running) -> None:
    body = {"Type": "recording", "RUNNER": RECORDER, "Max_Duration_Sec": 60, "extra": 1}
    response = await running.http.post("/jobs", json=body, headers=running.basic("plugin"))
    assert response.status_code == 200
    assert response.json()["input_data"] == {}


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_1_mib_is_refused_on_every_route(running, declared: bool) -> None:
    async def chunks():
        for _ in range(17):
            yield b" " * 65536

    for path in ("/jobs", "/jobs/init", "/register", "/unregister", "/login"):
        content = b" " * (1024 * 1024 + 1) if declared else chunks()
        headers = running.basic("plugin")
        response = await running.http.post(path, content=content, headers=headers)
        assert (response.status_code, response.json()["code"]) == (413, "413"), path


async def test_a_body_of_exactly_1_mib_is_read(running) -> None:
    text = json.dumps(config())
    body = text + " " * (1024 * 1024 - len(text))
    response = await running.http.post("/jobs", content=body, headers=running.basic("plugin"))
    assert response.status_code == 200


async def test_the_third_call_is_refused_and_its_siblings_are_not(running) -> None:
    await running.create_job(call="one")
    await running.create_job(call="two")
    refused = await running.post_job(call="three")
    assert refused.status_code == 500
    assert refused.json() == {
        "error": "failed to create recording job: max concurrent jobs reached",
        "code": "500",
    }
    for call in ("one", "two"):
        await running.create_job(call=call, job_type="transcribing")


async def test_a_finished_call_gives_its_place_back(running) -> None:
    first = await running.create_job(call="one")
    await running.create_job(call="two")
    running.backend.exit(first, 0)
    await running.check()
    await running.create_job(call="three")


async def test_a_launch_that_fails_is_told_and_holds_no_place(running) -> None:
    running.backend.refuse = "no such program"
    for call in ("one", "two", "three"):
        response = await running.post_job(call=call)
        assert response.status_code == 500
        assert response.json()["error"] == "failed to create recording job: it could not be started"
    running.backend.refuse = ""
    await running.create_job(call="four")


UNKNOWN_IDS = ("abcdef012345", "calls-recorder-job-x7k2p", "a", "A" * 12, "x" * 200, "init", "ü")


async def test_a_jobs_log_says_what_of_its_input_it_did_not_get(running) -> None:
    given = {"ld_preload": "/evil", "https_proxy": "http://me:hush@p", "width": 1280}
    response = await running.post_job(input_data=given)
    job_id = response.json()["id"]
    running.backend.log = b"line one\n"
    log = await running.http.get(f"/jobs/{job_id}/logs", headers=running.basic("plugin"))
    dropped, own = log.text.splitlines()
    said = json.loads(dropped)
    assert (said["event"], said["count"]) == ("input.dropped", 2)
    assert said["names"] == ["LD_PRELOAD", "HTTPS_PROXY"]
    assert "hush" not in dropped
    assert own == "line one"


async def test_a_client_gets_no_more_than_the_services_ceilings(start) -> None:
    running = await start(JOBS_MAXWIDTHPX="1280", JOBS_MAXDURATIONS="60")
    with structlog.testing.capture_logs() as logs:
        answer = (await running.post_job(input_data={"width": 3840})).json()
    assert answer["input_data"]["width"] == 1280
    assert answer["max_duration_sec"] == 60
    [line] = [line for line in logs if line["event"] == "job.lowered"]
    assert (line["log_level"], len(line["changes"])) == ("warning", 2)
    [request] = running.backend.launched.values()
    assert (request.input_data["width"], request.max_duration_s) == (1280, 60)


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("GET", "/logs"), ("DELETE", "")])
async def test_an_unknown_job_is_404(running, method: str, tail: str) -> None:
    for job_id in UNKNOWN_IDS:
        path = f"/jobs/{job_id}{tail}"
        response = await running.http.request(method, path, headers=running.basic("plugin"))
        assert response.json()["code"] == str(response.status_code)
        well_formed = job_id in UNKNOWN_IDS[:2]
        if tail == "/logs" and well_formed:  # the reference's answer to any failure there
            assert (response.status_code, response.json()["error"]) == (403, NO_SUCH_LOG)
        else:
            assert (response.status_code, response.json()["error"]) == (404, NO_SUCH_JOB)


async def test_stop_at_appears_when_the_job_has_ended(running) -> None:
    job_id = await running.create_job()
    assert "stop_at" not in await running.get_job(job_id)
    running.clock.advance(seconds=5)
    running.backend.exit(job_id, 0)
    await running.check()
    job = await running.get_job(job_id)
    assert job["stop_at"] == job["start_at"] + 5000
    assert "output_data" not in job


async def test_a_running_job_cannot_be_deleted_and_an_ended_one_is_gone_after_it(running) -> None:
    job_id = await running.create_job()
    headers = running.basic("plugin")
    refused = await running.http.delete(f"/jobs/{job_id}", headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (400, "job is running")
    running.backend.exit(job_id, 1)
    await running.check()
    deleted = await running.http.delete(f"/jobs/{job_id}", headers=headers)
    assert (deleted.status_code, deleted.content) == (200, b"")
    assert running.backend.removed == [job_id]
    assert (await running.http.get(f"/jobs/{job_id}", headers=headers)).status_code == 404


async def test_the_log_is_plain_text(running) -> None:
    job_id = await running.create_job()
    running.backend.log = "line one\nzwölf\n".encode()
    response = await running.http.get(f"/jobs/{job_id}/logs", headers=running.basic("plugin"))
    assert (response.status_code, response.text) == (200, "line one\nzwölf\n")
    assert response.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("GET", "/logs"), ("DELETE", "")])
async def test_a_client_sees_only_its_own_jobs_and_the_admin_all(start, method, tail) -> None:
    running = await start(API_SECURITY_ENABLEADMIN="true", API_SECURITY_ADMINSECRETKEY="a" * 32)
    job_id = await running.create_job(client="owner")
    running.backend.exit(job_id, 0)
    await running.check()
    path = f"/jobs/{job_id}{tail}"
    other = await running.http.request(method, path, headers=running.basic("other"))
    expected = (403, NO_SUCH_LOG) if tail == "/logs" else (404, NO_SUCH_JOB)
    assert (other.status_code, other.json()["error"]) == expected
    admin = await running.http.request(method, path, headers=running.basic("me", "a" * 32))
    assert admin.status_code == 200


async def test_no_answer_ever_holds_the_token(running) -> None:
    job_id = await running.create_job()
    running.backend.observations[job_id] = Observation(Phase.RUNNING, detail="x")
    await running.check()
    headers = running.basic("plugin")
    for path in (f"/jobs/{job_id}", f"/jobs/{job_id}/logs", "/metrics"):
        assert "hidden-token" not in (await running.http.get(path, headers=headers)).text


async def test_a_service_that_is_ending_takes_no_job(running) -> None:
    running.offloader.entrance.close(for_good=True)
    response = await running.post_job()
    assert response.status_code == 500
    assert "shutting down" in response.json()["error"]
