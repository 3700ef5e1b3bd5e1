"""Deletion on the wire, and the admin's routes about what is kept of a call, a channel or a person."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

ADMIN_KEY = "the-admin's-own-key-of-this-test"
ADMIN = {"API_SECURITY_ENABLEADMIN": "true", "API_SECURITY_ADMINSECRETKEY": ADMIN_KEY}
CALL, CHANNEL, ANNA, BERT = (letter * 26 for letter in "pcab")


@pytest.fixture
async def running(start: Any) -> Any:
    return await start(**ADMIN, JOBS_KEEPPUBLISHED="1d")


async def ended_job(running: Any, *, call: str = CHANNEL, post: str = CALL, **facts: Any) -> str:
    job_id: str = await running.create_job(call=call, post=post)
    running.backend.exit(job_id, 0, **facts)
    await running.check()
    return job_id


async def ask(running: Any, action: str, *, status: int = 200, **body: str) -> Any:
    answer = await running.http.post(
        f"/admin/data/{action}", json=body, headers=running.basic("admin", ADMIN_KEY)
    )
    assert answer.status_code == status, answer.text
    return answer.json()


async def delete(running: Any, job_id: str) -> Any:
    return await running.http.delete(f"/jobs/{job_id}", headers=running.basic("plugin"))


async def test_a_deletion_that_cannot_reach_the_files_is_accepted_and_done_later(
    running: Any,
) -> None:
    job_id = await ended_job(running)
    running.backend.unreachable = "the engine is down"
    for _ in range(2):
        answer = await delete(running, job_id)
        assert (answer.status_code, answer.content) == (202, b"")
    for path in ("", "/logs", "/artifacts"):
        looked = await running.http.get(f"/jobs/{job_id}{path}", headers=running.basic("plugin"))
        assert looked.status_code in (403, 404)
    running.backend.unreachable = ""
    running.clock.advance(seconds=61)
    await running.check()
    assert running.backend.removed == [job_id]
    assert (await delete(running, job_id)).status_code == 404


async def test_what_is_to_be_deleted_is_not_published_any_more(running: Any) -> None:
    job_id = await ended_job(running, unpublished=True)
    running.backend.unreachable = "the engine is down"
    assert (await delete(running, job_id)).status_code == 202
    running.clock.advance(seconds=3600)
    await running.check()
    assert running.backend.salvaged == []


@pytest.mark.documents("a-job-that-is-held")
async def test_a_held_job_is_not_deleted_and_the_answer_says_why(
    running: Any, documented: Any
) -> None:
    job_id = await ended_job(running)
    held = await ask(running, "hold", call=CALL, hold="case 7")
    assert [job["outcome"] for job in held["jobs"]] == ["held"]
    refused = await delete(running, job_id)
    assert (refused.status_code, refused.json()["code"]) == (409, "409")
    documented("a-job-that-is-held", refused.json()["error"])
    deleted = await ask(running, "delete", channel=CHANNEL)
    assert [job["outcome"] for job in deleted["jobs"]] == ["held"]
    released = await ask(running, "release", call=CALL)
    assert [job["outcome"] for job in released["jobs"]] == ["released"]
    assert (await delete(running, job_id)).status_code == 200


async def test_data_is_found_by_call_and_by_channel(running: Any) -> None:
    first = await ended_job(running)
    other = await ended_job(running, post="o" * 26)
    live = await running.create_job(call="x" * 26, post="y" * 26)
    assert [job["id"] for job in (await ask(running, "find", call=CALL))["jobs"]] == [first]
    found = (await ask(running, "find", channel=CHANNEL))["jobs"]
    assert {job["id"] for job in found} == {other, first}
    assert found[0]["files"] == "here"
    outcomes = (await ask(running, "delete", channel="x" * 26))["jobs"]
    assert [(job["id"], job["outcome"]) for job in outcomes] == [(live, "running")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (f"t/{ANNA}_track.ogg", b"voice"),
        ("t/artifacts/transcript.json", json.dumps({"speakers": [{"user_id": ANNA}]}).encode()),
        ("t/artifacts/speakers.json", b" " * 300 + f'{{"user_id": "{ANNA}"}}'.encode()),
    ],
)
async def test_data_is_found_by_who_took_part(running: Any, name: str, content: bytes) -> None:
    running.backend.files = {"t/artifacts/speakers.json": b'{"user_id": ""}', name: content}
    job_id = await ended_job(running)
    anna = await ask(running, "find", user=ANNA)
    assert [job["id"] for job in anna["jobs"]] == [job_id]
    bert = await ask(running, "find", user=BERT)
    assert (bert["jobs"], bert["unsearched"]) == ([], [])


async def test_what_cannot_be_looked_into_for_a_person_is_named(running: Any) -> None:
    running.backend.files = {"r/part.mp4": b"video"}
    silent = await ended_job(running)
    running.clock.advance(seconds=61)
    await running.check()
    found = await ask(running, "find", user=ANNA)
    assert found["unsearched"] == [
        {"id": silent, "reason": "its files do not say who took part"},
    ]
    running.clock.advance(seconds=86400)  # keep_published is over, the record's time is, too
    await running.check()
    assert (await ask(running, "find", user=ANNA))["unsearched"] == []


async def test_a_person_whose_files_are_erased_is_in_no_record(start: Any) -> None:
    running = await start(**ADMIN)
    await ended_job(running)
    running.clock.advance(seconds=61)
    await running.check()
    found = await ask(running, "find", user=ANNA)
    assert (found["jobs"], found["unsearched"], found["records_only"]) == ([], [], 1)


@pytest.mark.documents(
    "a-request-about-data-that-cannot-be",
    "a-request-about-data-that-cannot-be/2",
    "a-request-about-data-that-cannot-be/3",
)
async def test_a_request_that_names_nothing_sensible_is_refused(
    running: Any, documented: Any
) -> None:
    for body, number in (
        ({}, ""),
        ({"call": CALL, "user": ANNA}, ""),
        ({"call": "../x"}, "/2"),
        ({"user": ANNA, "hold": "x" * 121}, "/3"),
        ({"user": ANNA, "hold": "a\nb"}, "/3"),
    ):
        told = (await ask(running, "hold", status=400, **body))["error"]
        documented(f"a-request-about-data-that-cannot-be{number}", told)


@pytest.mark.documents("too-many-unpublished-results")
async def test_at_the_quota_no_further_call_is_let_in_and_nothing_is_deleted(
    start: Any, documented: Any
) -> None:
    running = await start(JOBS_UNPUBLISHEDQUOTA="1KiB", JOBS_MAXCONCURRENTJOBS="9")
    running.backend.files = {"r/part.mp4": b"x" * 1024, "r/job.json": b""}
    left = await ended_job(running, unpublished=True)
    await running.create_job(call="a", post="a")
    running.clock.advance(seconds=61)
    await running.check()  # measured now
    refused = await running.post_job(call="b", post="b")
    assert refused.status_code == 500
    documented("too-many-unpublished-results", refused.json()["error"])
    # The transcript of a call that is being recorded is no further call.
    assert (await running.post_job(call="a", post="a", job_type="transcribing")).status_code == 200
    assert "calls_offloader_unpublished_bytes 1024.0" in (await running.http.get("/metrics")).text
    assert running.backend.removed == running.backend.erased == []
    assert (await delete(running, left)).status_code == 200
    await running.create_job(call="b", post="b")


async def test_nobody_but_the_admin_asks_about_data(running: Any) -> None:
    for action in ("find", "delete", "hold", "release"):
        answer = await running.http.post(
            f"/admin/data/{action}", json={"call": CALL}, headers=running.basic("plugin")
        )
        assert answer.status_code in (401, 403)


async def test_each_deletion_and_hold_is_a_record_and_names_no_person(
    serve: Any, tmp_path: Path
) -> None:
    async with serve(tmp_path, **ADMIN, JOBS_KEEPPUBLISHED="1d") as served:
        http, plugin = served.http, served.basic("plugin")
        config = {
            "type": "recording",
            "runner": "mattermost/calls-recorder:v0.8.13",
            "max_duration_sec": 3600,
            "input_data": {"call_id": CHANNEL, "post_id": CALL, "auth_token": "the-token"},
        }
        job_id = (await http.post("/jobs", json=config, headers=plugin)).json()["id"]
        served.backend.files = {f"t/{ANNA}_x.ogg": b"voice"}
        served.backend.exit(job_id, 0)
        await served.offloader.supervisor.check()
        admin = served.basic("admin", ADMIN_KEY)
        for action in ("find", "hold", "release", "delete"):
            body = {"user": ANNA}
            await http.post(f"/admin/data/{action}", json=body, headers=admin)
    text = (tmp_path / "store.audit.jsonl").read_text()
    records = [json.loads(line) for line in text.splitlines()]
    of_job = [r["action"] for r in records if r.get("job") == job_id and r["who"] == "admin"]
    assert of_job == ["job.hold", "job.release", "job.delete"]
    asked = [r for r in records if r["action"].startswith("data.")]
    assert [r["action"] for r in asked] == [
        f"data.{a}" for a in ("find", "hold", "release", "delete")
    ]
    assert {r["user_sha256"] for r in asked} == {hashlib.sha256(ANNA.encode()).hexdigest()}
    assert ANNA not in text
