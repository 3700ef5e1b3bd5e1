"""The life of a recording and its transcription, seen from the plugin (calls-plugin.md 5.7, 6.7)."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.looptime

RECORDER_LATE = "failed to start recording job: timed out waiting for bot to join call"
TRANSCRIBER_LATE = "failed to start transcriber job: timed out waiting for bot to join call"


def _ended(states: list[dict]) -> list[tuple[str, str]]:
    return [(s["type"], s["err"]) for s in states if s["end_at"]]


# start


async def test_a_start_answers_with_the_recordings_state(standin) -> None:
    await standin.joined("alice")
    response = await standin.record()
    assert response.status_code == 200
    init_at = response.json()["init_at"]
    assert init_at == pytest.approx(standin.now_ms(), abs=1000)
    assert response.json() == {
        "type": "recording",
        "init_at": init_at,
        "start_at": 0,
        "end_at": 0,
        "err": "",
    }


async def test_a_start_makes_both_jobs_and_tells_the_call(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    assert [s["type"] for s in (await alice.heard()).job_states] == [
        "recording",
        "transcribing",
        "transcribing",
        "recording",
    ]
    call = await standin.call()
    recording, transcribing = (call["jobs"][kind] for kind in ("recording", "transcribing"))
    assert recording["job_id"] != transcribing["job_id"]
    [(first, rec_input), (second, tr_input)] = standin.job_service.created
    assert (first, second) == ("recording", "transcribing")
    common = {
        "site_url": standin.site_url,
        "call_id": standin.channel_id,  # and not the call's own id (trap 1)
        "post_id": call["post_id"],
        "auth_token": standin.token("calls"),
    }
    assert common.items() <= rec_input.items()
    assert common.items() <= tr_input.items()
    assert rec_input["recording_id"] == recording["job_id"]
    assert tr_input["transcription_id"] == transcribing["job_id"]
    assert recording["service_job_id"] == "service-recording"


async def test_a_job_event_names_the_call_by_its_channel_and_tells_the_bot_too(standin) -> None:
    alice, bot = await standin.joined("alice"), await standin.connect("calls")
    await alice.heard()
    await standin.record()
    event = (await alice.heard())[0]
    assert event.data["callID"] == standin.channel_id
    assert set(event.data["jobState"]) == {"type", "init_at", "start_at", "end_at", "err"}
    assert (await bot.heard()).names == ["call_job_state"] * 4


async def test_without_transcriptions_there_is_one_job(start) -> None:
    standin = await start(transcriptions=False)
    alice = await standin.joined("alice")
    await standin.record()
    assert [kind for kind, _ in standin.job_service.created] == ["recording"]
    assert {s["type"] for s in (await alice.heard()).job_states} == {"recording"}
    [post] = await standin.posts()
    job_id = await standin.job_id("recording")
    assert post["props"]["recordings"] == {job_id: {"tr_id": ""}}
    assert "transcriptions" not in post["props"]


async def test_the_call_post_links_the_jobs_to_each_other(standin) -> None:
    await standin.joined("alice")
    await standin.record()
    recording_id = await standin.job_id("recording")
    transcription_id = await standin.job_id("transcribing")
    [post] = await standin.posts()
    assert post["type"] == "custom_calls"
    assert post["props"]["recordings"] == {recording_id: {"tr_id": transcription_id}}
    assert post["props"]["transcriptions"] == {transcription_id: {"rec_id": recording_id}}


async def test_active_jobs_are_in_the_call_state_and_ended_ones_are_not(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    request = {"channelID": standin.channel_id}
    state = (await alice.act("call_state", request)).state
    assert state["recording"].keys() == {"type", "init_at", "start_at", "end_at"}
    assert state["transcription"]["type"] == "transcribing"
    assert state["live_captions"]["type"] == "captioning"
    await standin.record("stop")
    state = (await alice.act("call_state", request)).state
    assert not {"recording", "transcription", "live_captions"} & set(state)


async def test_without_live_captions_there_is_no_captioning_job(start) -> None:
    standin = await start(live_captions=False)
    alice = await standin.joined("alice")
    await standin.record()
    state = (await alice.act("call_state", {"channelID": standin.channel_id})).state
    assert "live_captions" not in state
    assert "transcription" in state


# refusals


async def test_nothing_is_recorded_without_a_call(standin) -> None:
    assert standin.result(await standin.record()) == (403, "no call ongoing")
    assert standin.result(await standin.record("stop")) == (403, "no call ongoing")


async def test_a_recording_of_another_channel_finds_no_call(standin) -> None:
    await standin.joined("alice")
    call_id = (await standin.call())["call_id"]
    response = await standin.post(f"/calls/{call_id}/recording/start", who="alice")
    assert standin.result(response) == (403, "no call ongoing")
    assert standin.job_service.created == []


async def test_only_the_host_records_and_stops(standin) -> None:
    await standin.joined("alice")
    await standin.joined("bob")
    refused = (403, "no permissions to record")
    assert standin.result(await standin.record(who="bob")) == refused
    await standin.record()
    assert standin.result(await standin.record("stop", who="bob")) == refused
    assert (await standin.record("stop")).status_code == 200


async def test_a_second_start_and_a_second_stop_are_refused(standin) -> None:
    await standin.joined("alice")
    nothing = (403, "no recording in progress")
    assert standin.result(await standin.record("stop")) == nothing
    await standin.record()
    assert standin.result(await standin.record()) == (403, "recording already in progress")
    await standin.record("stop")
    assert standin.result(await standin.record("stop")) == nothing


async def test_without_a_job_service_nothing_is_recorded(standin) -> None:
    await standin.joined("alice")
    standin.job_service.initialized = False
    refused = (403, "Job service is not initialized")
    assert standin.result(await standin.record()) == refused


async def test_an_unknown_action_is_400(standin) -> None:
    await standin.joined("alice")
    assert (await standin.record("pause")).status_code == 400


async def test_a_refused_recording_ends_with_the_services_text(standin) -> None:
    alice = await standin.joined("alice")
    await alice.heard()
    standin.job_service.refuse = {"recording": "max concurrent jobs reached"}
    response = await standin.record()
    assert standin.result(response) == (500, "max concurrent jobs reached")
    states = (await alice.heard()).job_states
    assert [(s["type"], s["err"], bool(s["end_at"])) for s in states] == [
        ("recording", "", False),
        ("recording", "max concurrent jobs reached", True),
    ]
    assert standin.job_service.created == []
    standin.job_service.refuse = {}
    assert (await standin.record()).status_code == 200


async def test_a_refused_transcription_leaves_a_recording_that_is_called_failed_but_runs_on(
    standin,
) -> None:
    alice = await standin.joined("alice")
    standin.job_service.refuse = {"transcribing": "max concurrent jobs reached"}
    response = await standin.record()
    assert standin.result(response) == (500, "max concurrent jobs reached")
    events = await alice.heard()
    assert _ended(events.job_states) == [
        ("transcribing", "max concurrent jobs reached"),
        ("captioning", "max concurrent jobs reached"),
        ("recording", "max concurrent jobs reached"),
    ]
    assert events.stopped == []
    [post] = await standin.posts()
    assert "recordings" not in post["props"]
    await asyncio.sleep(120)  # no timer watches it
    recording = (await standin.call())["jobs"]["recording"]
    assert (recording["end_at"], recording["err"]) == (0, "")
    assert "join" in (await (await standin.connect("calls")).join(recording["job_id"])).names
    assert (await standin.record("stop")).status_code == 200


# the bot's join


async def test_the_bot_joins_with_the_id_of_a_job_that_has_not_started(standin) -> None:
    await standin.joined("alice")
    await standin.record()
    for kind in ("recording", "transcribing"):
        bot = await standin.connect("calls")
        events = await bot.join(await standin.job_id(kind))
        assert events.names == ["join", "call_job_state", "call_state"]
        assert events.job_states[0]["type"] == "recording"
        assert events.state["recording"]["start_at"] == 0
    assert len(standin.sfu.sent) == 3


async def test_a_transcriber_that_comes_late_learns_when_the_recording_started(standin) -> None:
    await standin.joined("alice")
    await standin.record()
    recording_id = await standin.job_id("recording")
    await standin.joined("calls", recording_id)
    await standin.report(recording_id, JobType="recording", Status="started")
    started_at = (await standin.call())["jobs"]["recording"]["start_at"]
    await asyncio.sleep(20)
    bot = await standin.connect("calls")
    events = await bot.join(await standin.job_id("transcribing"))
    assert events.names == ["join", "call_job_state", "call_state"]
    assert events.job_states[0]["start_at"] == started_at > 0


@pytest.mark.parametrize(
    ("job_id", "text"),
    [
        ("", "JobID should not be empty for bot connections"),
        pytest.param(
            "x" * 26,
            "no job in progress",
            marks=pytest.mark.documents("a-job-that-came-too-late"),
        ),
    ],
)
async def test_a_bot_without_a_job_is_refused(standin, job_id: str, text: str, documented) -> None:
    bot = await standin.connect("calls")
    assert (await bot.join(job_id)).only("error").data["data"] == text
    await standin.joined("alice")
    told = (await bot.join(job_id)).only("error").data["data"]
    assert told == text
    documented.marked(told)


@pytest.mark.documents("a-job-that-the-plugin-does-not-expect")
async def test_the_bot_is_refused_with_an_unknown_a_started_or_an_ended_job(
    standin, documented
) -> None:
    await standin.joined("alice")
    await standin.record()
    recording_id = await standin.job_id("recording")
    transcription_id = await standin.job_id("transcribing")
    bot = await standin.connect("calls")

    async def refusal(job_id: str) -> str:
        return (await bot.join(job_id)).only("error").data["data"]

    documented("a-job-that-the-plugin-does-not-expect", await refusal("x" * 26))
    assert await refusal("") == "JobID should not be empty for bot connections"
    await standin.report(recording_id, JobType="recording", Status="started")
    assert await refusal(recording_id) == "job not in progress or already started"
    await standin.record("stop")
    assert await refusal(transcription_id) == "no job in progress"


async def test_people_need_no_job_and_theirs_is_ignored(standin) -> None:
    alice = await standin.connect("alice")
    assert "join" in (await alice.join("x" * 26)).names


# the timers


async def test_a_job_that_does_not_start_within_a_minute_fails_and_stops_its_sibling(
    standin,
) -> None:
    alice, bot = await standin.joined("alice"), await standin.connect("calls")
    await standin.record()
    recording_id = await standin.job_id("recording")
    transcription_id = await standin.job_id("transcribing")
    await standin.report(transcription_id, JobType="transcribing", Status="started")
    await alice.heard()
    await bot.heard()
    await asyncio.sleep(59.9)
    assert await alice.heard() == []
    await asyncio.sleep(0.2)
    assert _ended((await alice.heard()).job_states) == [
        ("recording", RECORDER_LATE),
        ("transcribing", ""),
        ("captioning", ""),
    ]
    assert (await bot.heard()).stopped == [transcription_id]
    refused = (await bot.join(recording_id)).only("error").data["data"]
    assert refused == "no job in progress"


@pytest.mark.documents("timed-out-waiting-for-the-transcriber")
async def test_a_transcriber_that_does_not_start_within_a_minute_takes_the_recording_with_it(
    standin, documented
) -> None:
    alice, bot = await standin.joined("alice"), await standin.connect("calls")
    await standin.record()
    recording_id = await standin.job_id("recording")
    await standin.report(recording_id, JobType="recording", Status="started")
    await alice.heard()
    await asyncio.sleep(60.1)
    told = _ended((await alice.heard()).job_states)
    assert told == [
        ("transcribing", TRANSCRIBER_LATE),
        ("captioning", TRANSCRIBER_LATE),
        ("recording", ""),
    ]
    documented("timed-out-waiting-for-the-transcriber", told[0][1])
    assert (await bot.heard()).stopped == [recording_id]


@pytest.mark.documents("timed-out-waiting-for-the-recorder")
async def test_when_neither_job_starts_one_time_out_is_told(standin, documented) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    await asyncio.sleep(100)
    errors = [text for _, text in _ended((await alice.heard()).job_states) if text]
    assert errors == [RECORDER_LATE]
    documented("timed-out-waiting-for-the-recorder", errors[0])


async def test_started_jobs_are_left_alone_by_the_timers(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    for kind in ("recording", "transcribing"):
        await standin.report(await standin.job_id(kind), JobType=kind, Status="started")
    await alice.heard()
    await asyncio.sleep(200)
    assert await alice.heard() == []


async def test_the_timer_of_an_ended_recording_does_not_touch_the_next_one(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    await asyncio.sleep(50)
    await standin.record("stop")
    await standin.record()
    await alice.heard()
    await asyncio.sleep(20)
    assert await alice.heard() == []


# the end


async def test_a_stop_ends_the_jobs_and_asks_the_transcriber_first(standin) -> None:
    alice, bot = await standin.joined("alice"), await standin.connect("calls")
    await standin.record()
    recording_id = await standin.job_id("recording")
    transcription_id = await standin.job_id("transcribing")
    await alice.heard()
    await bot.heard()
    response = await standin.record("stop")
    assert response.json()["type"] == "recording"
    assert response.json()["end_at"] == pytest.approx(standin.now_ms(), abs=1000)
    events = await bot.heard()
    assert events.stopped == [transcription_id, recording_id]
    assert _ended(events.job_states) == [
        ("transcribing", ""),
        ("captioning", ""),
        ("recording", ""),
    ]
    assert (await alice.heard()).stopped == []


async def test_a_job_stop_has_no_channel_and_goes_to_every_connection_of_the_bot(standin) -> None:
    await standin.joined("alice")
    await standin.record()
    recorder = await standin.joined("calls", await standin.job_id("recording"))
    other = await standin.connect("calls")
    await standin.record("stop")
    for client in (recorder, other):
        for event in [e for e in await client.heard() if e.name == "job_stop"]:
            assert set(event.data) == {"job_id"}
            assert event.broadcast["channel_id"] == ""
            assert event.broadcast["user_id"] == client.user_id


async def test_when_everybody_left_the_jobs_are_asked_to_stop_but_not_ended(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await standin.record()
    recording_id = await standin.job_id("recording")
    transcription_id = await standin.job_id("transcribing")
    recorder = await standin.joined("calls", recording_id)
    transcriber = await standin.joined("calls", transcription_id)
    await alice.act("leave")
    assert (await recorder.heard()).stopped == []
    await bob.act("leave")
    events = await recorder.heard()
    assert sorted(events.stopped) == sorted([recording_id, transcription_id])
    assert "call_end" not in events.names
    jobs = (await standin.call())["jobs"]
    assert [job["end_at"] for job in jobs.values()] == [0, 0, 0]
    await transcriber.heard()
    await transcriber.act("leave")
    assert {"transcribing", "recording"} <= {
        k for k, _ in _ended((await recorder.heard()).job_states)
    }
    await recorder.act("leave")
    assert await standin.call() == {"active": False}


async def test_a_bot_that_leaves_ends_its_job_and_stops_the_sibling(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    recorder = await standin.joined("calls", await standin.job_id("recording"))
    transcription_id = await standin.job_id("transcribing")
    transcriber = await standin.joined("calls", transcription_id)
    await alice.heard()
    await recorder.act("leave")
    assert [kind for kind, _ in _ended((await alice.heard()).job_states)] == [
        "recording",
        "transcribing",
        "captioning",
    ]
    assert (await transcriber.heard()).stopped == [transcription_id]


async def test_a_bot_whose_socket_was_lost_too_long_ends_its_job(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    job_id = await standin.job_id("recording")
    recorder = await standin.joined("calls", job_id)
    await standin.report(job_id, JobType="recording", Status="started")
    await recorder.socket.drop()
    await alice.heard()
    await asyncio.sleep(10.1)
    assert ("recording", "") in _ended((await alice.heard()).job_states)


async def test_a_bot_that_leaves_after_the_stop_ends_nothing_more(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    recorder = await standin.joined("calls", await standin.job_id("recording"))
    await standin.record("stop")
    await alice.heard()
    await recorder.act("leave")
    assert await alice.heard() == []
