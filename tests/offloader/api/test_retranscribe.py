"""`POST /jobs/{id}/retranscribe`: what is asked for, run among the work after calls, told of and guarded."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from clientauth.service import Identity
from offloader.backends.base import Observation
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError
from offloader.models import Workload

SITE = "https://chat.example.com"
TRANSCRIPTION = "1r6ws6oi5jyq8xthsn4s5c9bny"
AUDIO = f"{TRANSCRIPTION}/artifacts/audio/u_t.ogg"
INPUT = {
    "site_url": SITE,
    "call_id": "c",
    "post_id": "p",
    "transcription_id": TRANSCRIPTION,
    "auth_token": "first-token",
    "model_size": "base",
    "vocabulary": "Ada",
    "live_captions_on": True,
    "keep_audio": "true",
    "transcribe_api_options": "null",
}


@pytest.fixture
async def running(start: Any) -> Any:
    return await start(JOBS_MAXCONCURRENTJOBS="3", JOBS_POSTCALLSLOTS="1")


async def ended(running: Any, *, audio: bool = True, **changes: Any) -> str:
    """A transcribing job that ended well, with what it kept."""
    wanted = {"job_type": "transcribing", "input_data": INPUT} | changes
    job_id: str = await running.create_job(**wanted)
    running.backend.files = {AUDIO: b"x", f"{AUDIO}.index": b"x"} if audio else {}
    running.backend.exit(job_id, 0)
    await running.check()
    return job_id


async def ask(running: Any, job_id: str, client: str = "plugin", **body: Any) -> Any:
    path = f"/jobs/{job_id}/retranscribe"
    return await running.http.post(path, json=body, headers=running.basic(client))


async def told(running: Any, job_id: str) -> Any:
    path = f"/jobs/{job_id}?details=1"
    response = await running.http.get(path, headers=running.basic("plugin"))
    return response.json()["retranscription"]


async def end(running: Any, job_id: str, code: int = 0, log: bytes = b"") -> Any:
    running.backend.log = log
    running.backend.exit(f"{job_id}/again-{len(running.backend.retranscribed)}", code)
    await running.check()
    return await told(running, job_id)


async def test_nothing_is_posted_to_a_site_that_the_admin_serves_no_more(running) -> None:
    job_id = await ended(running)
    service = running.offloader.service
    network = replace(service._settings.network, allowed_sites=frozenset({"https://other.example"}))
    service._settings = replace(service._settings, network=network)
    refused = await ask(running, job_id, publish=True)
    assert refused.status_code == 400
    assert "not among jobs.allowed_site_urls" in refused.json()["error"]
    assert (await ask(running, job_id)).status_code == 202, "which connects to nobody"


async def test_it_is_accepted_run_after_calls_and_told_of(running) -> None:
    job_id = await ended(running)
    assert await told(running, job_id) is None
    response = await ask(running, job_id, model="large-v3", language="de,en")
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job_id}?details=1"
    again = response.json()["retranscription"]
    assert (again["state"], again["publish"]) == ("waiting", False)
    assert again["artifacts"].startswith(f"{TRANSCRIPTION}/artifacts/again-")
    await running.check()
    ((run, variables),) = running.backend.retranscribed
    assert run == job_id
    folder = again["artifacts"].split("/")[2]
    assert variables["RETRANSCRIPTION"] == folder
    assert (variables["MODEL"], variables["LANGUAGES"]) == ("large-v3", "de,en")
    assert (variables["SITE_URL"], variables["VOCABULARY"]) == (SITE, "Ada")
    assert not {"AUTH_TOKEN", "LIVE_CAPTIONS_ON", "RETRANSCRIPTION_PUBLISH"} & set(variables)
    assert (await told(running, job_id))["state"] == "running"
    line = b'{"event":"retranscription.done","segments":9,"inaudible":2,"certain":true}\n'
    done = await end(running, job_id, 0, line)
    assert (done["state"], done["exit_code"]) == ("done", 0)
    assert "2 pieces are [inaudible]" in done["detail"]
    assert done["ended_at"] >= done["requested_at"]
    answer = await running.http.get(f"/jobs/{job_id}?details=1", headers=running.basic("plugin"))
    times = answer.json()["times"]
    for name in ("requested", "ended"):
        text = times[f"retranscription_{name}"]
        assert text.endswith("Z")
        assert round(datetime.fromisoformat(text).timestamp() * 1000) == done[f"{name}_at"]


async def test_a_failure_is_told_with_its_reason(running) -> None:
    job_id = await ended(running)
    await ask(running, job_id, model="huge")
    await running.check()
    line = b'{"event":"retranscription.failed","reason":"no model \'huge\' in /models"}\n'
    failed = await end(running, job_id, 2, line)
    assert (failed["state"], failed["exit_code"]) == ("failed", 2)
    assert failed["detail"] == "no model 'huge' in /models"
    running.backend.refuse = "kubernetes: the files went with the pod"
    await ask(running, job_id, model="small")
    await running.check()
    assert (await told(running, job_id))["detail"] == "kubernetes: the files went with the pod"


async def test_publishing_takes_the_given_token_or_the_newest_one(running) -> None:
    job_id = await ended(running)
    await ask(running, job_id, publish=True)
    await running.check()
    assert running.backend.retranscribed[-1][1]["AUTH_TOKEN"] == "first-token"
    assert running.backend.retranscribed[-1][1]["RETRANSCRIPTION_PUBLISH"] == "true"
    await end(running, job_id)
    await ask(running, job_id, publish=True, auth_token="second-token")
    await running.check()
    assert running.backend.retranscribed[-1][1]["AUTH_TOKEN"] == "second-token"
    names = {variables["RETRANSCRIPTION"] for _, variables in running.backend.retranscribed}
    assert len(names) == 1, "so the second run finds what the first has posted"


async def test_nobody_publishes_without_a_token(running) -> None:
    data = {name: value for name, value in INPUT.items() if name != "auth_token"}
    job_id = await ended(running, input_data=data)
    response = await ask(running, job_id, publish=True)
    assert response.status_code == 409
    assert "send auth_token" in response.json()["error"]
    assert (await ask(running, job_id, publish=True, auth_token="t")).status_code == 202


async def test_the_same_wish_twice_is_one_and_another_one_waits_its_turn(running) -> None:
    job_id = await ended(running)
    for _ in range(2):
        assert (await ask(running, job_id, model="small")).status_code == 202
    other = await ask(running, job_id, model="medium")
    assert (other.status_code, "again already" in other.json()["error"]) == (409, True)
    await running.check()
    await running.check()
    assert len(running.backend.retranscribed) == 1


async def test_without_kept_audio_it_says_which_setting_keeps_it(running) -> None:
    job_id = await ended(running, audio=False)
    response = await ask(running, job_id)
    assert response.status_code == 409
    assert "MM_CALLS_TRANSCRIBER_KEEP_AUDIO=true" in response.json()["error"]
    recording = await running.create_job()
    assert "is a recording" in (await ask(running, recording)).json()["error"]
    live = await running.create_job(job_type="transcribing", call="other")
    assert "still running" in (await ask(running, live)).json()["error"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"model": 1}, "model"),
        ({"vocabulary": "a,b"}, "vocabulary"),
        ({"publish": "yes"}, "publish"),
        ({"engine": "x"}, "invalid engine value"),
        ({"engine": "azure"}, "invalid engine_options value"),
    ],
)
async def test_a_body_that_cannot_be_is_400_and_named(running, body, named: str) -> None:
    job_id = await ended(running)
    response = await ask(running, job_id, **body)
    assert (response.status_code, named in response.json()["error"]) == (400, True)
    assert await told(running, job_id) is None


async def test_keys_of_a_service_reach_the_run_and_nothing_that_is_shown(running) -> None:
    job_id = await ended(running)
    options = {"AZURE_SPEECH_KEY": "k3y-of-azure", "AZURE_SPEECH_REGION": "westeurope"}
    response = await ask(running, job_id, engine="azure", engine_options=options)
    await running.check()
    variables = running.backend.retranscribed[-1][1]
    assert variables | options == dict(variables)
    assert variables["TRANSCRIBE_API"] == "azure"
    path = f"/jobs/{job_id}?details=1"
    shown = await running.http.get(path, headers=running.basic("plugin"))
    assert "k3y" not in response.text + shown.text


async def test_another_key_or_address_of_the_service_is_another_wish(running) -> None:
    job_id = await ended(running)
    names = []
    for key in ("first-k3y", "first-k3y", "second-k3y"):
        options = {"AZURE_SPEECH_KEY": key, "AZURE_SPEECH_REGION": "westeurope"}
        response = await ask(running, job_id, engine="azure", engine_options=options)
        names.append(response.json()["retranscription"]["artifacts"])
        await running.check()
        await end(running, job_id)
    assert names[0] == names[1], "so a repeat finds what is there"
    assert names[2] != names[1], "or nothing would be done with it"


async def test_it_takes_a_place_of_the_work_after_calls(running) -> None:
    """One slot: a job after its call has it first."""
    first, second = await ended(running), await ended(running)
    running.backend.log = b'{"event":"progress"}\n'
    busy = await running.create_job(job_type="transcribing", call="busy")
    await running.check()
    for job_id in (first, second):
        await ask(running, job_id)
        running.clock.advance(seconds=1)
    await running.check()
    assert running.backend.retranscribed == []
    running.backend.log = b""
    running.backend.exit(busy, 0)
    await running.check()
    await running.check()
    assert [job_id for job_id, _ in running.backend.retranscribed] == [first]
    await end(running, first)
    await running.check()
    assert [job_id for job_id, _ in running.backend.retranscribed] == [first, second]


async def test_it_never_costs_a_new_call_its_place(start) -> None:
    """With its one slot taken, a job after its call has given up the call's place all the same."""
    running = await start(JOBS_MAXCONCURRENTJOBS="1", JOBS_POSTCALLSLOTS="1")
    again = await ended(running)
    await ask(running, again)
    await running.check()
    await running.create_job(call="first")
    running.backend.log = b'{"event":"progress"}\n'
    await running.check()
    assert (await running.post_job(call="second")).status_code == 200


async def test_a_backend_without_a_way_to_the_files_says_why(running, monkeypatch) -> None:
    job_id = await ended(running)

    async def artifacts(_: Any) -> Any:
        raise BackendError("the files were on its pod's emptyDir and went with it")

    monkeypatch.setattr(running.backend, "artifacts", artifacts)
    response = await ask(running, job_id)
    assert (response.status_code, "emptyDir" in response.json()["error"]) == (409, True)


async def stop(running: Any, job_id: str) -> int:
    path = f"/jobs/{job_id}/stop"
    response = await running.http.post(path, headers=running.basic("plugin"))
    return int(response.status_code)


@pytest.mark.documents("stopped-on-request")
async def test_it_can_be_stopped_while_it_waits_and_while_it_runs(running, documented) -> None:
    job_id = await ended(running)
    assert await stop(running, job_id) == 200
    await ask(running, job_id)
    assert await stop(running, job_id) == 202
    await running.check()
    waited = await told(running, job_id)
    assert waited["state"] == "failed"
    documented("stopped-on-request", waited["detail"])
    assert running.backend.retranscribed == []
    await ask(running, job_id)
    await running.check()
    assert await stop(running, job_id) == 202
    await running.check()
    assert running.backend.stopped == [(f"{job_id}/again-1", 10.0)]
    ran = await end(running, job_id, 143)
    assert (ran["state"], ran["detail"]) == ("failed", "stopped on request")


@pytest.mark.documents("its-host-is-gone/2")
async def test_with_its_host_the_wish_is_gone(running, documented) -> None:
    job_id = await ended(running)
    await ask(running, job_id)
    job = await running.offloader.service.get(job_id, client=Identity("", admin=True))
    await running.offloader.supervisor._upkeep._retranscriber.host_lost(replace(job, host="w1"))
    documented("its-host-is-gone/2", (await told(running, job_id))["detail"])


@pytest.mark.documents("a-defect-of-a-retranscription")
async def test_a_defect_with_one_job_is_no_other_s_business(
    running, documented, monkeypatch
) -> None:
    first, second = [await ended(running) for _ in range(2)]
    begin, poll = running.backend.retranscribe, running.backend.poll

    async def odd_begin(workload: Workload, **told: Any) -> Workload:
        if workload.reference["id"] == first:
            raise KeyError("no-such-field")
        return await begin(workload, **told)

    async def odd_poll(workload: Workload) -> Observation:
        if str(workload.reference["id"]).startswith(f"{second}/"):
            raise ValueError("no number")
        return await poll(workload)

    monkeypatch.setattr(running.backend, "retranscribe", odd_begin)
    for job_id in (first, second):
        await ask(running, job_id)
        running.clock.advance(seconds=1)
    with structlog.testing.capture_logs() as lines:
        await running.check()
        given_up = await told(running, first)
        assert given_up["state"] == "failed"
        documented("a-defect-of-a-retranscription", given_up["detail"])
        await running.check()
        assert (await told(running, second))["state"] == "running"
        monkeypatch.setattr(running.backend, "poll", odd_poll)
        third = await ended(running)
        for _ in range(3):
            await running.check()
    assert (await told(running, second))["state"] == "running", "nobody knows what became of it"
    answer = await running.http.get(f"/jobs/{third}", headers=running.basic("plugin"))
    assert answer.status_code == 200
    errors = [line for line in lines if line["log_level"] == "error"]
    assert [(line["event"], line["job_id"]) for line in errors] == [
        ("retranscription.job_failed", first),
        ("retranscription.job_failed", second),
    ]


async def test_its_files_are_needed_until_it_is_done(running) -> None:
    job_id = await ended(running)
    await ask(running, job_id)
    headers = running.basic("plugin")
    assert (await running.http.delete(f"/jobs/{job_id}", headers=headers)).status_code == 400
    running.clock.advance(seconds=timedelta(days=60).total_seconds())
    await running.check()
    assert (await told(running, job_id))["state"] == "running", "or the sweep would have had it"
    await end(running, job_id)
    assert (await running.http.delete(f"/jobs/{job_id}", headers=headers)).status_code == 200


async def test_it_is_waited_for_while_the_outbox_is_at_work_in_the_same_files(running) -> None:
    job_id = await ended(running)
    other: str = await running.create_job(job_type="transcribing", input_data=INPUT, call="two")
    running.backend.exit(other, 1, unpublished=True)
    await running.check()
    running.clock.advance(seconds=31)
    await running.check()  # the attempt runs, and has the one place
    await ask(running, other)
    await ask(running, job_id)
    await running.check()
    assert running.backend.retranscribed == []
    running.backend.exit(f"{other}/salvage-1", 1)
    await running.check()
    await running.check()
    assert len(running.backend.retranscribed) == 1


async def test_a_later_process_goes_on_with_what_runs(start) -> None:
    backend = StubBackend()
    first = await start(backend=backend)
    job_id = await ended(first)
    await ask(first, job_id, model="small")
    await first.check()
    second = await start(backend=backend, clock=first.clock)
    assert (await end(second, job_id))["state"] == "done"


async def test_salvage_gets_the_keys_of_the_speech_service(running) -> None:
    data = INPUT | {
        "transcribe_api": "azure",
        "transcribe_api_options": '{"AZURE_SPEECH_KEY":"k3y"}',
    }
    job_id = await running.create_job(job_type="transcribing", input_data=data)
    running.backend.exit(job_id, 137, unpublished=True)
    await running.check()
    running.clock.advance(seconds=31)
    await running.check()
    ((_, variables),) = running.backend.salvaged
    assert variables == {
        "AUTH_TOKEN": "first-token",
        "SITE_URL": SITE,
        "TRANSCRIBE_API_OPTIONS": '{"AZURE_SPEECH_KEY":"k3y"}',
    }
