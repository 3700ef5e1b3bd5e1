"""Requests that cannot be, provoked and held against docs/troubleshooting.md."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import structlog.testing

from offloader.backends.base import Places
from offloader.errors import BackendError

TOKEN = "t" * 26
RECORDING = b'"type": "recording", "runner": "mattermost/calls-recorder:v0.8.13"'


def entry(name: str, *values: Any) -> Any:
    """A row of a table, with the mark that says what it provokes."""
    return pytest.param(name, *values, marks=pytest.mark.documents(name), id=name)


def told(answer: httpx.Response, status: int) -> str:
    """The error of an answer."""
    document = answer.json()
    assert (answer.status_code, document["code"]) == (status, str(status)), document
    return str(document["error"])


BODIES = [
    entry("a-body-of-another-form", b"[]"),
    entry("a-body-of-another-form/2", b""),
    entry("a-body-of-another-form/3", b'{"type": "\xff"}'),
    entry("a-body-of-another-form/4", b"[" * 100_000),
    entry("a-body-of-another-form/5", b'{"max_duration_sec": NaN}'),
    entry("a-body-of-another-form/6", b'{"max_duration_sec": "long"}'),
    entry("a-duration-beyond-reason", b'{%s, "max_duration_sec": 99999999999}' % RECORDING),
    entry(
        "a-nul-character-in-a-request",
        b'{%s, "max_duration_sec": 1, "input_data": {"call_id": "\\u0000"}}' % RECORDING,
    ),
]


@pytest.mark.parametrize(("name", "body"), BODIES)
async def test_bodies_that_cannot_be(running: Any, documented: Any, name: str, body: bytes) -> None:
    answer = await running.http.post("/jobs", content=body, headers=running.basic("plugin"))
    documented(name, told(answer, 400))


@pytest.mark.documents("a-query-parameter-that-is-there-twice", "a-nul-character-in-a-request/2")
async def test_queries_that_cannot_be(running: Any, documented: Any) -> None:
    await running.create_job()
    headers = running.basic("plugin")
    answer = await running.http.get("/jobs?limit=1&limit=2", headers=headers)
    documented("a-query-parameter-that-is-there-twice", told(answer, 400))
    answer = await running.http.get("/jobs?state=%00", headers=headers)
    documented("a-nul-character-in-a-request/2", told(answer, 400))


@pytest.mark.documents(
    "a-range-beyond-the-file",
    "a-job-whose-files-cannot-be-removed",
    "an-error-of-the-service-itself",
)
async def test_what_a_job_that_ended_cannot_do(
    running: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await running.create_job()
    running.backend.exit(job_id, 0)
    await running.check()
    running.backend.files = {"part.mp4": b"abc"}
    headers = running.basic("plugin")
    answer = await running.http.get(
        f"/jobs/{job_id}/artifacts/part.mp4", headers=headers | {"Range": "bytes=9-"}
    )
    documented("a-range-beyond-the-file", told(answer, 416))

    async def kept(*_: Any, **__: Any) -> None:
        raise BackendError("cannot remove /jobs/x: Permission denied")

    monkeypatch.setattr(running.backend, "remove", kept)
    with structlog.testing.capture_logs() as lines:
        answer = await running.http.delete(f"/jobs/{job_id}", headers=headers)
    assert answer.status_code == 202
    [waits] = [line["error"] for line in lines if line["event"] == "job.removal_waits"]
    documented("a-job-whose-files-cannot-be-removed", waits)

    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(running.backend, "remove", broken)
    transport = httpx.ASGITransport(running.offloader.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://offloader") as http:
        answer = await http.delete(f"/jobs/{job_id}", headers=headers)
    documented("an-error-of-the-service-itself", told(answer, 500))


WISHES = [
    entry("a-wish-of-transcribing-that-cannot-be", {"engine": "tapes"}),
    entry(
        "a-wish-of-transcribing-that-cannot-be/2",
        {"engine": "faster-whisper", "engine_options": {"A_KEY": "x"}},
    ),
    entry(
        "a-wish-of-transcribing-that-cannot-be/3",
        {"engine": "azure", "engine_options": {f"A_KEY_{n}": "x" for n in range(1000)}},
    ),
    entry(
        "a-wish-of-transcribing-that-cannot-be/4",
        {"engine": "azure", "engine_options": {"AZURE_SPEECH_KEY": []}},
    ),
    entry("a-speech-service-without-its-options", {"engine": "azure"}),
    entry("a-token-for-a-wish-that-posts-nothing", {"auth_token": TOKEN}),
    entry("a-token-for-a-wish-that-posts-nothing/2", {"auth_token": "no token", "publish": True}),
]


@pytest.fixture
async def transcribed(running: Any) -> str:
    """A job that was transcribed and kept its audio."""
    data = {"call_id": "c", "post_id": "p", "transcription_id": TOKEN}
    job_id: str = await running.create_job(job_type="transcribing", input_data=data)
    running.backend.exit(job_id, 0)
    await running.check()
    audio = f"{TOKEN}/artifacts/audio/u_t.ogg"
    running.backend.files = {audio: b"x", f"{audio}.index": b"x"}
    return job_id


@pytest.mark.parametrize(("name", "wish"), WISHES)
async def test_wishes_that_cannot_be(
    running: Any, documented: Any, transcribed: str, name: str, wish: Any
) -> None:
    path, headers = f"/jobs/{transcribed}/retranscribe", running.basic("plugin")
    documented(name, told(await running.http.post(path, json=wish, headers=headers), 400))


@pytest.mark.documents("another-job-is-transcribed-again-already")
async def test_one_wish_at_a_time(running: Any, documented: Any, transcribed: str) -> None:
    path, headers = f"/jobs/{transcribed}/retranscribe", running.basic("plugin")
    first = await running.http.post(path, json={"language": "en"}, headers=headers)
    assert first.status_code == 202, first.text
    answer = await running.http.post(path, json={"language": "de"}, headers=headers)
    documented("another-job-is-transcribed-again-already", told(answer, 409))


@pytest.mark.documents("a-job-that-is-just-being-launched")
async def test_a_stop_while_its_launch_takes_long(
    running: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    launch = running.backend.launch

    async def slowly(*arguments: Any, **options: Any) -> Any:
        began.set()
        await go_on.wait()
        return await launch(*arguments, **options)

    monkeypatch.setattr(running.backend, "launch", slowly)
    monkeypatch.setattr("offloader.service._LAUNCH_PATIENCE_S", 0)
    posted = asyncio.ensure_future(running.post_job())
    await began.wait()
    headers = running.basic("plugin")
    [job] = (await running.http.get("/jobs", headers=headers)).json()["jobs"]
    stop = running.http.post(f"/jobs/{job['id']}/stop", headers=headers)
    documented("a-job-that-is-just-being-launched", told(await stop, 409))
    go_on.set()
    await posted


@pytest.mark.documents(
    "a-client-that-registers-itself-by-an-odd-name",
    "a-client-that-registers-itself-by-an-odd-name/2",
    "a-clients-key-that-is-too-short",
)
async def test_clients_that_cannot_be(start: Any, documented: Any) -> None:
    secret = "s" * 32
    running = await start(API_SECURITY_ENABLEADMIN="true", API_SECURITY_ADMINSECRETKEY=secret)
    admin = running.basic("admin", secret)
    body = {"clientID": "a\0b", "authKey": "k" * 32}
    answer = await running.http.post("/register", json=body, headers=admin)
    documented("a-client-that-registers-itself-by-an-odd-name", told(answer, 400))
    answer = await running.http.post("/jobs/init", headers=running.basic(" mal"))
    documented("a-client-that-registers-itself-by-an-odd-name/2", told(answer, 401))
    body = {"clientID": "plugin", "authKey": "short"}
    answer = await running.http.post("/admin/clients/add", json=body, headers=admin)
    documented("a-clients-key-that-is-too-short", told(answer, 400))


@pytest.mark.documents("a-header-that-is-there-twice")
async def test_headers_that_cannot_be(running: Any, documented: Any) -> None:
    headers = [("Authorization", "Bearer x"), ("Authorization", "Bearer y")]
    answer = await running.http.get("/jobs", headers=headers)
    documented("a-header-that-is-there-twice", told(answer, 400))


@pytest.mark.documents("no-host-takes-jobs")
async def test_no_host_at_all(
    running: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none() -> Places:
        return Places(calls=0, hosts=0)

    monkeypatch.setattr(running.offloader.entrance, "_places", none)
    with structlog.testing.capture_logs() as logs:
        told_people = told(await running.post_job(), 500)
    assert told_people == "failed to create recording job: max concurrent jobs reached"
    [detail] = [line["detail"] for line in logs if line["event"] == "job.refused"]
    documented("no-host-takes-jobs", detail)


@pytest.mark.documents("an-image-registry-that-is-empty")
async def test_a_registry_without_a_name(start: Any, documented: Any) -> None:
    running = await start(JOBS_IMAGEREGISTRY="")
    documented("an-image-registry-that-is-empty", told(await running.post_job(), 400))
