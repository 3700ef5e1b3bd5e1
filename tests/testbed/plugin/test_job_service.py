"""What the plugin sends to the job service, against a played one (calls-plugin.md 6.1–6.5)."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from testbed.plugin.job_service import (
    JobServiceClient,
    JobServiceError,
    PluginSettings,
    passed_through,
    recording_input,
    transcribing_input,
)

IDS = {"channel_id": "c", "post_id": "p", "job_id": "j", "token": "t"}


class PlayedService:
    """Answers as told, without a socket; keeps every request."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str, Any]] = []
        self.answers: dict[str, Response | list[Response]] = {
            "/version": JSONResponse({"buildVersion": "v0.9.5"}),
            "/jobs/init": Response(status_code=200),
            "/jobs": JSONResponse({"id": "abc", "type": "recording"}),
        }
        self.app = FastAPI()
        self.app.api_route("/{path:path}", methods=["GET", "POST"])(self._answer)

    async def _answer(self, request: Request) -> Response:
        body = await request.json() if await request.body() else None
        authorization = request.headers.get("authorization", "")
        self.requests.append((request.method, request.url.path, authorization, body))
        answer = self.answers[request.url.path]
        return answer.pop(0) if isinstance(answer, list) else answer

    def client(self, **settings: Any) -> JobServiceClient:
        return JobServiceClient("http://service/", PluginSettings("http://site", **settings))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> PlayedService:
    played = PlayedService()

    def http(client: JobServiceClient, timeout_s: float) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(played.app)
        return httpx.AsyncClient(transport=transport, base_url="http://service")

    monkeypatch.setattr(JobServiceClient, "_http", http)
    return played


async def test_it_asks_the_version_without_and_initialises_with_basic_auth(
    service: PlayedService,
) -> None:
    client = service.client()
    assert not client.initialized
    await client.initialize()
    assert client.initialized
    [version, init] = service.requests
    assert version == ("GET", "/version", "", None)
    assert init[:2] == ("POST", "/jobs/init")
    client_id, key = base64.b64decode(init[2].removeprefix("Basic ")).decode().split(":")
    assert client_id
    assert len(key) >= 32  # or the service would not register it
    assert init[3] == {
        "Runners": ["mattermost/calls-recorder:v0.8.13", "mattermost/calls-transcriber:v0.7.2"]
    }


async def test_without_transcriptions_only_the_recorder_is_asked_for(
    service: PlayedService,
) -> None:
    await service.client(transcriptions=False, image_registry="mirror").initialize()
    assert service.requests[1][3] == {"Runners": ["mirror/calls-recorder:v0.8.13"]}


@pytest.mark.parametrize("version", ["v0.9.0", "0.9.1", "v0.10.0", "v1.0.0", "", "master", "dev-1"])
async def test_a_recent_or_unreleased_service_is_used(service: PlayedService, version: str) -> None:
    service.answers["/version"] = JSONResponse({"buildVersion": version})
    client = service.client()
    await client.initialize()
    assert client.initialized


@pytest.mark.parametrize("version", ["v0.8.9", "0.1.0", "unknown"])
async def test_an_old_service_is_not_initialised(service: PlayedService, version: str) -> None:
    service.answers["/version"] = JSONResponse({"buildVersion": version})
    client = service.client()
    with pytest.raises(JobServiceError, match=r"v0\.9\.0"):
        await client.initialize()
    assert not client.initialized
    assert len(service.requests) == 1


async def test_a_refused_initialisation_tells_the_services_text(service: PlayedService) -> None:
    service.answers["/jobs/init"] = JSONResponse({"error": "no such image", "code": 400}, 400)
    client = service.client()
    with pytest.raises(JobServiceError, match="no such image"):
        await client.initialize()
    assert not client.initialized


async def test_it_goes_on_trying_until_the_service_is_up(service: PlayedService) -> None:
    good = service.answers["/version"]
    assert isinstance(good, Response)
    service.answers["/version"] = [Response(status_code=503), Response(status_code=503), good]
    client = service.client()
    await client.initialize_when_up(wait_s=0)
    assert client.initialized
    assert [path for _, path, _, _ in service.requests] == ["/version"] * 3 + ["/jobs/init"]


async def test_it_gives_up_after_its_attempts(unused_tcp_port: int) -> None:
    client = JobServiceClient(f"http://127.0.0.1:{unused_tcp_port}", PluginSettings("http://site"))
    with pytest.raises(JobServiceError, match="does not answer"):
        await client.initialize_when_up(attempts=3, wait_s=0)
    assert not client.initialized


@pytest.mark.parametrize(
    ("type_", "runner", "seconds"),
    [
        ("recording", "mattermost/calls-recorder:v0.8.13", 30 * 60),
        ("transcribing", "mattermost/calls-transcriber:v0.7.2", 2 * 30 * 60),
    ],
)
async def test_a_job_is_asked_for_with_its_runner_and_longest_duration(
    service: PlayedService, type_: str, runner: str, seconds: int
) -> None:
    client = service.client(max_recording_minutes=30)
    assert await client.create(type_, {"call_id": "c"}) == "abc"
    [(method, path, authorization, body)] = service.requests
    assert (method, path) == ("POST", "/jobs")
    assert authorization.startswith("Basic ")
    assert body == {
        "type": type_,
        "max_duration_sec": seconds,
        "runner": runner,
        "input_data": {"call_id": "c"},
    }


async def test_a_refused_job_tells_the_services_text(service: PlayedService) -> None:
    text = "max concurrent jobs reached"
    service.answers["/jobs"] = JSONResponse({"error": text, "code": 503}, 503)
    with pytest.raises(JobServiceError, match=text):
        await service.client().create("recording", {})


@pytest.mark.parametrize("answer", [Response("oops", 500), JSONResponse([], 500)])
async def test_a_refusal_without_a_text_tells_the_status(
    service: PlayedService, answer: Response
) -> None:
    service.answers["/jobs"] = answer
    with pytest.raises(JobServiceError, match="HTTP 500"):
        await service.client().create("recording", {})


async def test_a_job_is_made_by_200_and_nothing_else(service: PlayedService) -> None:
    service.answers["/jobs"] = JSONResponse({"id": "abc"}, 201)
    with pytest.raises(JobServiceError, match="201"):
        await service.client().create("recording", {})


async def test_each_client_has_a_key_of_its_own_and_keeps_it(service: PlayedService) -> None:
    one, two = service.client(), service.client()
    for client in (one, one, two):
        await client.create("recording", {})
    first, again, other = (authorization for _, _, authorization, _ in service.requests)
    assert first == again != other


# input_data


@pytest.mark.parametrize(
    ("quality", "numbers"),
    [
        ("low", (1280, 720, 1000, 64, 15, "ultrafast")),
        ("medium", (1280, 720, 1500, 64, 20, "veryfast")),
        ("high", (1920, 1080, 2500, 64, 20, "veryfast")),
    ],
)
def test_a_recordings_input_follows_the_quality(quality: str, numbers: tuple[Any, ...]) -> None:
    keys = ("width", "height", "video_rate", "audio_rate", "frame_rate", "video_preset")
    assert recording_input(PluginSettings("http://site", quality), **IDS) == {
        "site_url": "http://site",
        "call_id": "c",
        "post_id": "p",
        "recording_id": "j",
        "auth_token": "t",
        "output_format": "mp4",
    } | dict(zip(keys, numbers, strict=True))


def test_a_transcribers_input_has_the_plugins_defaults() -> None:
    assert transcribing_input(PluginSettings("http://site"), **IDS) == {
        "site_url": "http://site",
        "call_id": "c",
        "post_id": "p",
        "transcription_id": "j",
        "auth_token": "t",
        "transcribe_api": "whisper.cpp",
        "transcribe_api_options": "null",  # a text of four letters (trap 39)
        "model_size": "base",
        "output_format": "vtt",
        "num_threads": 2,
        "live_captions_on": True,
        "live_captions_model_size": "tiny",
        "live_captions_num_transcribers": 1,
        "live_captions_num_threads_per_transcriber": 2,
        "live_captions_language": "en",
        "webvtt_omit_speaker": False,
        "text_compact_silence_threshold_ms": 2000,
        "text_compact_max_segment_duration_ms": 10000,
    }


def test_the_plugins_environment_overrides_and_adds_texts() -> None:
    settings = PluginSettings(
        "http://site",
        recorder_env={"width": "1920", "tls_ca_cert_file": "/ca.pem"},
        transcriber_env={"site_url": "http://other", "num_threads": "4"},
    )
    recording = recording_input(settings, **IDS)
    assert (recording["width"], recording["tls_ca_cert_file"]) == ("1920", "/ca.pem")
    assert recording["site_url"] == "http://site"
    transcribing = transcribing_input(settings, **IDS)
    assert (transcribing["site_url"], transcribing["num_threads"]) == ("http://other", "4")


def test_what_an_admin_sets_in_the_plugin_s_environment_reaches_the_jobs_as_keys() -> None:
    environ = {
        "MM_CALLS_RECORDER_LAYOUT": "Speaker",
        "MM_CALLS_TRANSCRIBER_NUM_THREADS": "4",
        "MM_CALLS_RTCD_SERVICE_URL": "http://sfu",
        "PATH": "/bin",
    }
    assert passed_through("RECORDER", environ) == {"layout": "Speaker"}
    assert passed_through("TRANSCRIBER", environ) == {"num_threads": "4"}
