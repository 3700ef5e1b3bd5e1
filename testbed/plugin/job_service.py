"""The stand-in's client of the job service: what the plugin sends it (sections 6.1–6.5)."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

RECORDER_RUNNER = "calls-recorder:v0.8.13"
TRANSCRIBER_RUNNER = "calls-transcriber:v0.7.2"
_MIN_VERSION = (0, 9, 0)
_INIT_TIMEOUT_S = 120.0


class JobServiceError(Exception):
    """The job service refused or does not answer; the text is shown in the call."""


@dataclass(frozen=True, slots=True)
class RecordingQuality:
    """A row of section 6.3."""

    width: int
    height: int
    video_rate: int
    audio_rate: int
    frame_rate: int
    preset: str


QUALITIES = {
    "low": RecordingQuality(1280, 720, 1000, 64, 15, "ultrafast"),
    "medium": RecordingQuality(1280, 720, 1500, 64, 20, "veryfast"),
    "high": RecordingQuality(1920, 1080, 2500, 64, 20, "veryfast"),
}


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """What an admin would set in the System Console."""

    site_url: str
    quality: str = "medium"
    max_recording_minutes: int = 60
    transcriptions: bool = True
    live_captions: bool = True
    transcriber_model: str = "base"
    captions_model: str = "tiny"
    transcriber_threads: int = 2
    image_registry: str = "mattermost"
    start_timeout_s: float = 60.0
    recorder_env: dict[str, str] = field(default_factory=dict)
    """MM_CALLS_RECORDER_<X> as `x`: passed through as text (section 6.5)."""
    transcriber_env: dict[str, str] = field(default_factory=dict)


def passed_through(job: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What an admin has set in the plugin's environment for `job`, by keys of `input_data` (section 6.5)."""
    prefix = f"MM_CALLS_{job}_"
    return {
        name.removeprefix(prefix).lower(): value
        for name, value in environ.items()
        if name.startswith(prefix)
    }


def recording_input(
    settings: PluginSettings, *, channel_id: str, post_id: str, job_id: str, token: str
) -> dict[str, Any]:
    """`input_data` of a recording job."""
    quality = QUALITIES[settings.quality]
    return {
        "site_url": settings.site_url,
        "call_id": channel_id,
        "post_id": post_id,
        "recording_id": job_id,
        "auth_token": token,
        "width": quality.width,
        "height": quality.height,
        "video_rate": quality.video_rate,
        "audio_rate": quality.audio_rate,
        "frame_rate": quality.frame_rate,
        "video_preset": quality.preset,
        "output_format": "mp4",
    } | settings.recorder_env


def transcribing_input(
    settings: PluginSettings, *, channel_id: str, post_id: str, job_id: str, token: str
) -> dict[str, Any]:
    """`input_data` of a transcribing job."""
    return {
        "site_url": settings.site_url,
        "call_id": channel_id,
        "post_id": post_id,
        "transcription_id": job_id,
        "auth_token": token,
        "transcribe_api": "whisper.cpp",
        "transcribe_api_options": "null",  # four letters, not nothing (trap 39)
        "model_size": settings.transcriber_model,
        "output_format": "vtt",
        "num_threads": settings.transcriber_threads,
        "live_captions_on": settings.live_captions,
        "live_captions_model_size": settings.captions_model,
        "live_captions_num_transcribers": 1,
        "live_captions_num_threads_per_transcriber": 2,
        "live_captions_language": "en",
        "webvtt_omit_speaker": False,
        "text_compact_silence_threshold_ms": 2000,
        "text_compact_max_segment_duration_ms": 10000,
    } | settings.transcriber_env


class JobServiceClient:
    """Basic auth with an id and a key of its own; the service registers it on first sight."""

    def __init__(self, url: str, settings: PluginSettings) -> None:
        self._url = url.rstrip("/")
        self._settings = settings
        self._auth = httpx.BasicAuth("standin", secrets.token_urlsafe(24))
        self.initialized = False

    async def initialize(self) -> None:
        """Version check, then `/jobs/init`. Raises JobServiceError."""
        async with self._http(_INIT_TIMEOUT_S) as http:
            version = await _request(http, "GET", "/version", auth=None)
            if not _recent_enough(str(version.json().get("buildVersion", ""))):
                raise JobServiceError("the job service is older than v0.9.0")
            runners = [self._runner(RECORDER_RUNNER)]
            if self._settings.transcriptions:
                runners.append(self._runner(TRANSCRIBER_RUNNER))
            await _request(http, "POST", "/jobs/init", json={"Runners": runners}, auth=self._auth)
        self.initialized = True

    async def initialize_when_up(self, *, attempts: int = 200, wait_s: float = 0.1) -> None:
        """Initialise as soon as the service listens; the plugin itself tries just once (trap 45)."""
        for attempt in range(attempts):
            try:
                await self.initialize()
            except JobServiceError:
                if attempt == attempts - 1:
                    raise
                await asyncio.sleep(wait_s)
            else:
                return

    async def create(self, type_: str, input_data: dict[str, Any]) -> str:
        """`POST /jobs`; the service's job id. Raises JobServiceError."""
        minutes = self._settings.max_recording_minutes
        recording = type_ == "recording"
        body = {
            "type": type_,
            "max_duration_sec": minutes * 60 * (1 if recording else 2),
            "runner": self._runner(RECORDER_RUNNER if recording else TRANSCRIBER_RUNNER),
            "input_data": input_data,
        }
        async with self._http(30.0) as http:
            response = await _request(http, "POST", "/jobs", json=body, auth=self._auth)
        if response.status_code != 200:
            raise JobServiceError(f"unexpected status {response.status_code}")
        return str(response.json()["id"])

    def _runner(self, name: str) -> str:
        return f"{self._settings.image_registry}/{name}"

    def _http(self, timeout_s: float) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self._url, timeout=timeout_s, trust_env=False)


async def _request(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    auth: httpx.BasicAuth | None,
    json: Any = None,
) -> httpx.Response:
    try:
        response = await http.request(method, path, json=json, auth=auth)
    except httpx.HTTPError as error:
        raise JobServiceError(f"the job service does not answer: {type(error).__name__}") from error
    if response.status_code >= 300:
        raise JobServiceError(_error_text(response))
    return response


def _error_text(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"the job service answered HTTP {response.status_code}"


def _recent_enough(version: str) -> bool:
    if version in ("", "master") or version.startswith("dev"):
        return True
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    return match is not None and tuple(int(n) for n in match.groups()) >= _MIN_VERSION
