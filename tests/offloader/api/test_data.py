"""Deletion on the wire, and the admin's routes about what is kept of a call, a channel or a person."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from foundation.clock import epoch_ms
from offloader.api.openapi import openapi_document

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
    assert [(job["hold"], job["outcome"]) for job in held["jobs"]] == [("case 7", "held")]
    refused = await delete(running, job_id)
    assert (refused.status_code, refused.json()["code"]) == (409, "409")
    documented("a-job-that-is-held", refused.json()["error"])
    deleted = await ask(running, "delete", channel=CHANNEL)
    assert [job["outcome"] for job in deleted["jobs"]] == ["held"]
    released = await ask(running, "release", call=CALL)
    assert [(job["hold"], job["outcome"]) for job in released["jobs"]] == [("", "released")]
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


RECORDING, TRANSCRIPTION = "r" * 26, "t" * 26


async def called_job(running: Any, **ids: str) -> str:
    """A job that has ended; `ids` are members of its input."""
    job_id: str = await running.create_job(input_data={"auth_token": "hidden-token"} | ids)
    running.backend.exit(job_id, 0)
    await running.check()
    return job_id


def ids_of(answer: Any) -> set[str]:
    return {job["id"] for job in answer["jobs"]}


async def of_one_call(running: Any) -> tuple[str, str, str]:
    """A recording and a transcription of one call, and a job of the next call in that channel."""
    one = {"call_id": CHANNEL, "post_id": CALL}
    recording = await called_job(running, recording_id=RECORDING, **one)
    transcription = await called_job(running, transcription_id=TRANSCRIPTION, **one)
    return recording, transcription, await called_job(running, call_id=CHANNEL, post_id="q" * 26)


async def test_an_id_is_looked_for_in_one_member_and_a_call_takes_no_other_call_along(
    running: Any,
) -> None:
    recording, transcription, _ = await of_one_call(running)
    stranger = await called_job(running, call_id="x" * 26, post_id="y" * 26, recording_id=CALL)
    found = await ask(running, "find", call=CALL)
    assert (ids_of(found), found["matched"]) == ({recording, transcription}, "post_id")
    assert found["left_out"] == [{"matched": "recording_id", "jobs": 1}]
    await ask(running, "delete", call=CALL)
    assert set(running.backend.removed) == {recording, transcription}
    by_recording = await ask(running, "find", call=CALL)
    assert (ids_of(by_recording), by_recording["matched"]) == ({stranger}, "recording_id")


async def test_a_recordings_id_takes_that_recording_alone_and_tells_of_the_rest_of_its_call(
    running: Any,
) -> None:
    recording, transcription, _ = await of_one_call(running)
    for wanted, job_id, member in (
        (RECORDING, recording, "recording_id"),
        (TRANSCRIPTION, transcription, "transcription_id"),
    ):
        found = await ask(running, "find", call=wanted)
        assert (ids_of(found), found["matched"]) == ({job_id}, member)
        assert found["left_out"] == [{"matched": "post_id", "jobs": 1}]


async def test_a_channels_id_is_no_calls_and_the_answer_says_what_it_is(running: Any) -> None:
    of_channel = await of_one_call(running)
    nothing = await ask(running, "delete", call=CHANNEL)
    assert (nothing["jobs"], nothing["matched"]) == ([], "")
    assert nothing["left_out"] == [{"matched": "call_id", "jobs": 3}]
    assert (await ask(running, "find", channel=CALL))["left_out"] == [
        {"matched": "post_id", "jobs": 2}
    ]
    found = await ask(running, "find", channel=CHANNEL)
    assert (ids_of(found), found["matched"]) == (set(of_channel), "call_id")
    assert found["left_out"] == []


@pytest.mark.parametrize(
    "subject",
    [
        {"call": CALL},
        {"call": RECORDING},
        {"call": TRANSCRIPTION},
        {"channel": CHANNEL},
        {"user": ANNA},
    ],
    ids=["post", "recording", "transcription", "channel", "user"],
)
async def test_what_is_found_is_what_is_held_and_what_is_deleted(
    running: Any, subject: dict[str, str]
) -> None:
    running.backend.files = {f"t/{ANNA}_track.ogg": b"voice"}
    made = {*await of_one_call(running), await called_job(running, call_id="x" * 26)}
    found = ids_of(await ask(running, "find", **subject))
    assert found
    for action in ("hold", "release", "delete"):
        assert ids_of(await ask(running, action, **subject)) == found
    assert set(running.backend.removed) == found
    left = await running.http.get("/jobs", headers=running.basic("admin", ADMIN_KEY))
    assert ids_of(left.json()) == made - found


async def test_the_admin_is_shown_a_hold_and_its_client_is_not(running: Any) -> None:
    job_id = await ended_job(running)
    await ask(running, "hold", call=CALL, hold="case <7>")
    for path in (f"/jobs/{job_id}?details=1", "/jobs"):
        admins = await running.http.get(path, headers=running.basic("admin", ADMIN_KEY))
        job = admins.json() if path != "/jobs" else admins.json()["jobs"][0]
        assert (job["hold"], job["deletion"]) == ("case <7>", None)
        clients = await running.http.get(path, headers=running.basic("plugin"))
        assert clients.status_code == 200
        assert not {"hold", "deletion"} & set(clients.json())
        assert "case" not in clients.text


async def test_a_deletion_that_waits_is_shown_to_the_admin_and_to_nobody_else(running: Any) -> None:
    job_id = await ended_job(running)
    running.backend.unreachable = "the engine is down"
    assert (await delete(running, job_id)).status_code == 202
    asked_ms = epoch_ms(running.clock.utc_now())
    admin = running.basic("admin", ADMIN_KEY)
    shown = (await running.http.get(f"/jobs/{job_id}?details=1", headers=admin)).json()
    assert shown["deletion"] == {
        "requested_at": asked_ms,
        "when": "as soon as what it left can be reached",
    }
    reference = {"$ref": "#/components/schemas/JobDetails"}
    jsonschema_rs.validate(reference | {"components": openapi_document()["components"]}, shown)
    listed = (await running.http.get("/jobs", headers=admin)).json()["jobs"]
    assert [job["id"] for job in listed if job["deletion"]] == [job_id]
    (found,) = (await ask(running, "find", call=CALL))["jobs"]
    assert found["deletion_at"] == asked_ms
    for path in (f"/jobs/{job_id}/logs", f"/jobs/{job_id}/artifacts"):
        assert (await running.http.get(path, headers=admin)).status_code in (403, 404)
    clients = await running.http.get("/jobs", headers=running.basic("plugin"))
    assert clients.json()["jobs"] == []
    running.backend.unreachable = ""
    running.clock.advance(seconds=61)
    await running.check()
    assert (await running.http.get(f"/jobs/{job_id}", headers=admin)).status_code == 404


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
        ({"user": ANNA, "hold": " "}, "/3"),
        ({"call": ""}, "/2"),
        ({"call": CALL[1:]}, "/2"),
        ({"call": CALL.upper()}, "/2"),
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
