"""Status reports: the checks in their order, and what a report does (calls-plugin.md 5.6)."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.looptime

STARTED = {"JobType": "recording", "Status": "started"}
FAILED = {"JobType": "recording", "Status": "failed"}


async def _record(standin) -> None:
    """A call of alice, recorded, with nobody's report yet."""
    await standin.joined("alice")
    assert (await standin.record()).status_code == 200


async def test_without_a_call_every_report_is_refused(standin) -> None:
    for body in (STARTED, FAILED, {}):
        response = await standin.report("x" * 26, **body)
        assert standin.result(response) == (400, "no call ongoing")


async def test_the_calls_own_id_finds_no_call(standin) -> None:
    await _record(standin)
    job_id = await standin.job_id("recording")
    call_id = (await standin.call())["call_id"]
    response = await standin.post(f"/bot/calls/{call_id}/jobs/{job_id}/status", STARTED)
    assert standin.result(response) == (400, "no call ongoing")


@pytest.mark.parametrize("body", [{}, {"JobType": "captioning"}, {"JobType": "Recording"}])
async def test_the_type_is_checked_before_the_job(standin, body: dict[str, str]) -> None:
    await _record(standin)
    response = await standin.report("x" * 26, **body)
    assert standin.result(response) == (400, "invalid job type")


async def test_a_job_that_does_not_exist_is_told_from_another_one(start) -> None:
    standin = await start(transcriptions=False)
    await standin.joined("alice")
    no_job = (400, "no job ongoing")
    assert standin.result(await standin.report("x" * 26, **STARTED)) == no_job
    await standin.record()
    assert standin.result(await standin.report("x" * 26, **STARTED)) == (400, "invalid job ID")
    transcribing = STARTED | {"JobType": "transcribing"}
    job_id = await standin.job_id("recording")
    assert standin.result(await standin.report(job_id, **transcribing)) == no_job


async def test_the_id_of_the_sibling_is_invalid(standin) -> None:
    await _record(standin)
    response = await standin.report(await standin.job_id("transcribing"), **STARTED)
    assert standin.result(response) == (400, "invalid job ID")


async def test_the_job_services_own_id_is_invalid(standin) -> None:
    await _record(standin)
    response = await standin.report("service-recording", **STARTED)
    assert standin.result(response) == (400, "invalid job ID")


async def test_an_ended_job_may_only_fail(standin) -> None:
    await _record(standin)
    job_id = await standin.job_id("recording")
    await standin.record("stop")
    ended = (400, "job has ended")
    assert standin.result(await standin.report(job_id, **STARTED)) == ended
    unknown = STARTED | {"Status": "resting"}
    assert standin.result(await standin.report(job_id, **unknown)) == ended
    assert standin.result(await standin.report(job_id, **FAILED)) == (200, "success")


async def test_a_job_starts_once(standin) -> None:
    await _record(standin)
    job_id = await standin.job_id("recording")
    assert standin.result(await standin.report(job_id, **STARTED)) == (200, "success")
    again = await standin.report(job_id, **STARTED)
    assert standin.result(again) == (400, "job has already started")


@pytest.mark.parametrize("status", ["", "stopped", "Started"])
async def test_another_status_is_not_supported(standin, status: str) -> None:
    await _record(standin)
    job_id = await standin.job_id("recording")
    response = await standin.report(job_id, JobType="recording", Status=status)
    assert standin.result(response) == (400, "unsupported status type")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
async def test_a_body_that_is_no_object_is_400(standin, content: bytes) -> None:
    await _record(standin)
    job_id = await standin.job_id("recording")
    path = f"/bot/calls/{standin.channel_id}/jobs/{job_id}/status"
    response = await standin.request("POST", standin.plugin + path, content=content)
    assert response.status_code == 400


async def test_a_started_recording_has_its_time_and_everybody_hears_of_it(standin) -> None:
    await _record(standin)
    bob = await standin.joined("bob")
    before_ms = standin.now_ms()
    await standin.report(await standin.job_id("recording"), **STARTED)
    [state] = (await bob.heard()).job_states
    assert state["type"] == "recording"
    assert before_ms <= state["start_at"] <= standin.now_ms()
    assert (state["end_at"], state["err"]) == (0, "")


async def test_captions_start_with_the_transcriber(standin) -> None:
    await _record(standin)
    bob = await standin.joined("bob")
    job_id = await standin.job_id("transcribing")
    await standin.report(job_id, JobType="transcribing", Status="started")
    states = (await bob.heard()).job_states
    assert [state["type"] for state in states] == ["transcribing", "captioning"]
    assert states[0]["start_at"] == states[1]["start_at"] > 0


async def test_without_captions_the_transcriber_starts_alone(start) -> None:
    standin = await start(live_captions=False)
    alice = await standin.joined("alice")
    await standin.record()
    await alice.heard()
    job_id = await standin.job_id("transcribing")
    await standin.report(job_id, JobType="transcribing", Status="started")
    assert [state["type"] for state in (await alice.heard()).job_states] == ["transcribing"]


async def test_the_error_of_a_failure_comes_under_the_key_omitempty(standin) -> None:
    await _record(standin)
    bob = await standin.joined("bob")
    body = FAILED | {"omitempty": "cannot reach the call", "Error": "lost"}
    await standin.report(await standin.job_id("recording"), **body)
    failed = (await bob.heard()).job_states[0]
    assert (failed["type"], failed["err"]) == ("recording", "cannot reach the call")
    assert failed["end_at"] == pytest.approx(standin.now_ms(), abs=1000)


async def test_an_error_under_its_own_name_is_lost(standin) -> None:
    await _record(standin)
    bob = await standin.joined("bob")
    await standin.report(await standin.job_id("recording"), **FAILED, Error="lost", error="lost")
    failed = (await bob.heard()).job_states[0]
    assert failed["end_at"] > 0
    assert failed["err"] == ""


@pytest.mark.parametrize(
    ("failing", "sibling"), [("recording", "transcribing"), ("transcribing", "recording")]
)
async def test_a_failure_stops_the_sibling_and_only_it(standin, failing: str, sibling: str) -> None:
    await _record(standin)
    bot = await standin.connect("calls")
    sibling_id = await standin.job_id(sibling)
    await standin.report(await standin.job_id(failing), JobType=failing, Status="failed")
    assert (await bot.heard()).stopped == [sibling_id]
    jobs = (await standin.call())["jobs"]
    assert all(job["end_at"] > 0 for job in jobs.values())


async def test_a_report_is_refused_once_everybody_has_left(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    job_id = await standin.job_id("recording")
    bot = await standin.joined("calls", await standin.job_id("transcribing"))
    await alice.act("leave")
    assert standin.result(await standin.report(job_id, **STARTED)) == (200, "success")
    await bot.act("leave")
    response = await standin.report(job_id, **FAILED)
    assert standin.result(response) == (400, "no call ongoing")
