"""The whole way of `POST /jobs/{id}/retranscribe`: service, job process or container, model, post."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request

from jobs.ogg import read_pages
from jobs.transcriber.capture import TrackCapture, TrackIdentity, VoicePacket
from offloader.app import running_offloader
from offloader.settings import load_settings

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(150)]

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "tests/jobs/transcriber/data/bob.opus"
ID = "abcdefghijklmnopqrstuvwxy"
RESULT = ID + "t"
TOKEN = ID + "s"
CLIENT = httpx.BasicAuth("plugin", "k" * 32)
JOB_UID = 10001
"""Of our images."""


@dataclass
class Site:
    """A Mattermost as far as a transcript needs one; its calls are on LiveKit, so that jobs end at once."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    posts: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def app(self) -> FastAPI:
        app, prefix = FastAPI(), "/plugins/com.mattermost.calls/bot"

        @app.post(prefix + "/uploads")
        async def create(request: Request) -> Any:
            wanted = await request.json()
            self.tokens.add(request.headers["authorization"].removeprefix("Bearer "))
            return {"id": wanted["filename"], "file_offset": 0, **wanted}

        @app.post(prefix + "/uploads/{name}")
        async def upload(name: str, request: Request) -> Any:
            self.files[name] = await request.body()
            return {"id": name}

        @app.post(prefix + "/calls/{channel}/transcriptions")
        async def post(request: Request) -> Any:
            self.posts.append(await request.json())
            return {"message": "success", "status_code": 200}

        @app.post(prefix + "/calls/{channel}/jobs/{job}/status")
        async def status() -> Any:
            return {"message": "success", "status_code": 200}

        return app


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(found.app(), log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))
    found.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield found
    server.should_exit = True
    await serving


def _kept_audio(directory: Path) -> None:
    """As KEEP_AUDIO leaves it."""
    directory.mkdir(parents=True)
    with CLIP.open("rb") as file:
        payloads = [packet for page in read_pages(file) for packet in page.packets]
    capture = TrackCapture(directory / "bob.ogg", TrackIdentity("track-b", "session-b", "user-b"))
    voice = [p for p in payloads if not p.startswith((b"OpusHead", b"OpusTags"))]
    for number, payload in enumerate(voice):
        capture.add(VoicePacket(payload, number * 20_000_000, 20_000_000))
    capture.flush()
    speakers = {"session-b": {"user_id": "user-b", "name": "Bob Test"}}
    (directory / "speakers.json").write_text(json.dumps(speakers))
    (directory / "call.json").write_text('{"base_name": "Call_X"}')


def _into_process(directory: Path, job_id: str) -> None:
    _kept_audio(directory / "jobs" / job_id / "data" / RESULT / "artifacts" / "audio")


def _into_container(directory: Path, job_id: str) -> None:
    _kept_audio(directory / "kept" / "artifacts" / "audio")

    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = JOB_UID
        return info

    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(directory / "kept", arcname=RESULT, filter=owned)
    client = docker.APIClient(version="auto", **docker.utils.kwargs_from_env())
    try:
        client.put_archive(f"calls-transcriber-{job_id}", "/data", content.getvalue())
    finally:
        client.close()


@dataclass
class Stage:
    """A running service with one ended transcribing job that has kept its audio."""

    http: httpx.AsyncClient
    job_id: str

    async def again(self, **wish: Any) -> Any:
        """Ask for it, and wait for its end."""
        asked = await self.http.post(f"/jobs/{self.job_id}/retranscribe", json=wish)
        assert asked.status_code == 202, asked.text

        async def over() -> bool:
            return (await self.details())["retranscription"]["state"] in ("done", "failed")

        await _until(over)
        return (await self.details())["retranscription"]

    async def details(self) -> Any:
        return (await self.http.get(f"/jobs/{self.job_id}?details=1")).json()

    async def file(self, name: str) -> str:
        return (await self.http.get(f"/jobs/{self.job_id}/artifacts/{name}")).text


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(100):
        while not await condition():
            await asyncio.sleep(0.1)


@pytest.fixture(params=["process", "docker"])
async def stage(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> AsyncIterator[Stage]:
    place = _into_process
    if request.param == "docker":
        request.getfixturevalue("own_images")
        place = _into_container
    environ = {
        "STORE_DATASOURCE": str(tmp_path / "store.db"),
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "JOBS_APITYPE": request.param,
        "JOBS_KEEPPUBLISHED": "1d",
        "JOBS_PROCESS_JOBSDIR": str(tmp_path / "jobs"),
        "JOBS_PROCESS_MODELSDIR": str(ROOT / "models"),
        "JOBS_PROCESS_TRANSCRIBERCOMMAND": json.dumps([sys.executable, "-m", "jobs.transcriber"]),
        "JOBS_DOCKER_MODELSDIR": str(ROOT / "models"),
        "JOBS_DOCKER_INSTANCE": tmp_path.name,
        "DOCKER_NETWORK": "host",
    }
    settings = load_settings(tmp_path / "none.toml", environ)
    async with running_offloader(settings, environ=dict(os.environ)) as offloader:
        transport = httpx.ASGITransport(offloader.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://offloader", auth=CLIENT
        ) as http:
            wish = {
                "type": "transcribing",
                "runner": "mattermost/calls-transcriber:v0.7.2",
                "max_duration_sec": 60,
                "input_data": {
                    "site_url": site.url,
                    "call_id": ID + "c",
                    "post_id": ID + "p",
                    "transcription_id": RESULT,
                    "auth_token": TOKEN,
                    "livekit_url": "wss://elsewhere",
                },
            }
            created = await http.post("/jobs", json=wish)
            assert created.status_code == 200, created.text
            stage = Stage(http, created.json()["id"])

            async def ended() -> bool:
                return bool((await stage.details())["state"] == "finished")

            await _until(ended)
            await asyncio.to_thread(place, tmp_path, stage.job_id)
            yield stage
            await http.delete(f"/jobs/{stage.job_id}")


async def test_kept_audio_is_transcribed_again_shown_and_posted_once(
    stage: Stage, site: Site
) -> None:
    failed = await stage.again(model="huge")
    assert (failed["state"], "no model 'huge'" in failed["detail"]) == ("failed", True)
    done = await stage.again(model="whisper-words-ct2", vocabulary=["Ada"])
    assert (done["state"], done["detail"]) == ("done", "")
    folder = done["artifacts"]
    names = [
        file["name"]
        for file in (await stage.http.get(f"/jobs/{stage.job_id}/artifacts")).json()["artifacts"]
    ]
    for kind in ("vtt", "txt", "json", "srt", "md"):
        assert f"{folder}transcript.{kind}" in names
    assert f"{RESULT}/artifacts/audio/bob.ogg" in names, "it can be done again"
    vtt = await stage.file(f"{folder}transcript.vtt")
    assert "(Bob Test) hello alice" in vtt
    assert site.posts == []
    for _ in range(2):
        posted = await stage.again(model="whisper-words-ct2", vocabulary=["Ada"], publish=True)
        assert (posted["state"], posted["artifacts"]) == ("done", folder)
    (post,) = site.posts
    (transcription,) = post["Transcriptions"]
    assert transcription["FileIDs"] == ["Call_X.vtt", "Call_X.txt"]
    assert site.files["Call_X.vtt"].decode() == vtt
    assert site.tokens == {TOKEN}
