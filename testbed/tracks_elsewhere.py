"""Transcription after a call as its own stage, with everything real but the call: an owner's worker and
workers that transcribe, each a process, on a broker; captures made of clips; a job's own hand-over.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from jobs.transcriber.capture import CapturedTrack, TrackCapture, TrackIdentity, VoicePacket
from jobs.transcriber.engines.base import EngineInfo, Recognition
from jobs.transcriber.engines.hints import Hints
from jobs.transcriber.handover import HandOver
from jobs.transcriber.listening import UtteranceEnded
from jobs.transcriber.tasks_door import TasksDoor
from jobs.transcriber.track_bundle import TrackTask
from jobs.transcriber.transcript import Segment, TranscriptBacklog
from offloader.store.secret_key import Cipher
from offloader.worker.transcribing_owner import job_token
from testbed.brokers import free_port
from testbed.ports import HOST
from testbed.processes import Family, StartFailed
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, load_clips

OWNER: Final = "owner"
PARTICIPANT: Final = "Ada Lovelace"
"""Told to the engines, and to nobody else."""
_JOB_ID: Final = "a-job-of-the-bench"
_VOICES: Final = ("alice", "bob", "carol")
_PACKET_NS: Final = 20_000_000
_PAUSE_NS: Final = 1_000_000_000
_AFTER_NS: Final = 400_000_000
_READY_S: Final = 30.0


class NobodyHere:
    """The engine of a job that shall not transcribe itself; it has the workers' name and model."""

    def __init__(self, name: str, model: str) -> None:
        self.info = EngineInfo(name, model, "none", "none", 1, 1, multilingual=False)
        self.heard = 0

    def transcribe(self, audio: object, *, language: str | None) -> Recognition:
        """Nothing; counted."""
        self.heard += 1
        return Recognition((), "en")

    def hypothesise(
        self, audio: object, *, language: str | None, context_s: float, complete: bool
    ) -> Recognition:
        """Nothing."""
        return self.transcribe(audio, language=language)

    def detect_language(self, audio: object) -> tuple[tuple[str, float], ...]:
        """Nothing."""
        return ()


@dataclass(slots=True)
class Outcome:
    """What became of one hand-over."""

    segments: list[Segment] = field(repr=False)
    seconds: float
    pieces: int
    taken_back: int
    """Pieces that no worker did."""
    progress: list[int]
    """Pieces done, each time the job heard of more."""


class TrackSite:
    """`start`, `transcribe`, `stop`; workers are called worker-1, worker-2, …"""

    def __init__(
        self,
        directory: Path,
        *,
        models_dir: Path,
        broker_url: str,
        transcriber_command: Sequence[str] = (sys.executable, "-m", "jobs.transcriber"),
    ) -> None:
        self.directory = directory
        self._models_dir = models_dir
        self._command = tuple(transcriber_command)
        self._secret_key = secrets.token_urlsafe(32)
        self._broker_url = broker_url
        self._family = Family()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._urls: dict[str, str] = {}
        self._environments: dict[str, dict[str, str]] = {}

    async def start(self, workers: int) -> None:
        """The owner, which transcribes nothing of others, and so many workers.

        Raises:
            StartFailed: one of them does not answer in time.
        """
        await self._start_worker(OWNER, transcribe_slots=0)
        for number in range(1, workers + 1):
            await self._start_worker(f"worker-{number}", transcribe_slots=1)
        for name, url in self._urls.items():
            await self._until_ready(name, url)

    async def stop(self) -> None:
        """End everything. Idempotent."""
        await self._family.take_down(grace_s=1.0)

    async def kill(self, name: str) -> None:
        """As when its host loses power: SIGKILL."""
        process = self._processes[name]
        process.kill()
        await process.wait()

    async def restart_owner(self) -> None:
        """Kill it and start it again, at the same place. Raises StartFailed."""
        await self.kill(OWNER)
        await self._spawn(OWNER)
        await self._until_ready(OWNER, self._urls[OWNER])

    async def busy_worker(self) -> str:
        """A worker that has a track and has done a piece of it; waits for one."""
        while True:
            for track in await self.tracks():
                if track["state"] == "claimed" and track["done"]:
                    return str(track["worker"])
            await asyncio.sleep(0.05)

    async def tracks(self) -> list[dict[str, Any]]:
        """What the owner says about them; nothing before they are handed in."""
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx.AsyncClient(headers=headers, trust_env=False) as http:
            with suppress(httpx.HTTPError):
                answer = await http.get(f"{self._urls[OWNER]}/tasks/{_JOB_ID}")
                if answer.status_code == httpx.codes.OK:
                    return list(answer.json()["tracks"])
        return []

    def log_of(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    async def transcribe(
        self,
        captures: Sequence[tuple[CapturedTrack, list[UtteranceEnded]]],
        *,
        engine: str,
        model: str,
    ) -> Outcome:
        """Hand everything over and wait for the texts. `engine`, `model`: what the workers have."""
        here = NobodyHere(engine, model)
        backlog = TranscriptBacklog(here)
        for capture, utterances in captures:
            for utterance in utterances:
                backlog.add(capture, utterance)
        task = TrackTask(model, "auto", 1, "", Hints(prompt=PARTICIPANT))
        handover = HandOver(
            partial(TasksDoor, f"{self._urls[OWNER]}/tasks/{_JOB_ID}", self._token),
            task=lambda: task,
            engine={"name": engine, "model": model},
            directory=self.directory,
            silence_s=float("inf"),
        )
        progress: list[int] = []

        def news() -> None:
            progress.append(backlog.pieces_done + handover.done_elsewhere)

        began_s = time.monotonic()
        await handover.run(backlog, on_news=news)
        return Outcome(
            backlog.segments,
            time.monotonic() - began_s,
            backlog.pieces,
            handover.taken_back,
            progress,
        )

    @property
    def _token(self) -> str:
        return job_token(Cipher(self._secret_key), _JOB_ID)

    async def _start_worker(self, name: str, *, transcribe_slots: int) -> None:
        port = free_port()
        home = self.directory / name
        home.mkdir(parents=True)
        self._urls[name] = f"http://{HOST}:{port}"
        self._environments[name] = {
            "OFFLOADER_SECRET_KEY": self._secret_key,
            "JOBS_CELERY_BROKERURL": self._broker_url,
            "JOBS_CELERY_TRANSCRIBESTAGE": "true",
            "WORKER_NAME": name,
            "WORKER_LISTENADDRESS": f"{HOST}:{port}",
            "WORKER_SLOTS": "1",
            "WORKER_TRANSCRIBESLOTS": str(transcribe_slots),
            "JOBS_PROCESS_JOBSDIR": str(home / "jobs"),
            "JOBS_PROCESS_MODELSDIR": str(self._models_dir),
            "JOBS_PROCESS_TRANSCRIBERCOMMAND": ",".join(self._command),
            "STATE_DIRECTORY": str(home),
            "LOGGER_CONSOLEJSON": "true",
            "LOGGER_ENABLEFILE": "false",
        }
        await self._spawn(name)

    async def _spawn(self, name: str) -> None:
        config = str(self.directory / name / "none.toml")
        self._processes[name] = await self._family.start(
            [sys.executable, "-m", "offloader", "worker", "--config", config],
            environment={**_clean(os.environ), **self._environments[name]},
            log=self.log_of(name),
        )

    async def _until_ready(self, name: str, url: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            give_up_s = time.monotonic() + _READY_S
            while time.monotonic() < give_up_s:
                with suppress(httpx.HTTPError):
                    if (await http.get(f"{url}/healthz")).status_code == httpx.codes.OK:
                        return
                if self._processes[name].returncode is not None:
                    break
                await asyncio.sleep(0.1)
        raise StartFailed(f"{name} is not ready; see {self.log_of(name)}")


def make_captures(
    directory: Path, *, speakers: int, sentences: int
) -> list[tuple[CapturedTrack, list[UtteranceEnded]]]:
    """Captures of so many speakers who say so many sentences each, and where those lie. Blocks."""
    clips = load_clips(CLIPS_DIRECTORY, speakers=_VOICES)
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(speakers):
        voice = clips[_VOICES[number % len(_VOICES)]]
        identity = TrackIdentity(f"track{number}", f"session{number}", f"user{number}")
        capture = TrackCapture(directory / f"user{number}.ogg", identity)
        utterances = [
            _say(capture, voice[index % len(voice)], begin_ns)
            for index, begin_ns in _begins(voice, sentences)
        ]
        made.append((CapturedTrack(capture.path), utterances))
    return made


def _begins(voice: Sequence[Clip], sentences: int) -> list[tuple[int, int]]:
    at_ns, begins = _PAUSE_NS, []
    for index in range(sentences):
        begins.append((index, at_ns))
        at_ns += len(voice[index % len(voice)].packets) * _PACKET_NS + _PAUSE_NS
    return begins


def _say(capture: TrackCapture, clip: Clip, begin_ns: int) -> UtteranceEnded:
    for index, payload in enumerate(clip.packets):
        capture.add(VoicePacket(payload, begin_ns + index * _PACKET_NS, _PACKET_NS))
    capture.flush()  # it keeps a minute at most
    onset_ns = begin_ns + round(clip.words[0].start_s * 1e9)
    end_ns = begin_ns + round(clip.words[-1].end_s * 1e9)
    return UtteranceEnded(onset_ns, end_ns, end_ns + _AFTER_NS)


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Nothing of this process's own settings."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("JOBS_", "WORKER_", "LOGGER_", "API_", "STORE_", "OFFLOADER_"))
    }
