"""What victims need: SFU, stand-in and talking bots, and a way to add one more job to the call."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from testbed.bots.world import World, read_world
from testbed.chaos.schedule import JobKind
from testbed.demo.options import DemoOptions, provide_models
from testbed.ports import Ports
from testbed.processes import StartFailed
from testbed.scenario import MARKS, QUIET, TALK
from testbed.speech.clips import CLIPS_DIRECTORY
from testbed.stack import Stack
from testbed.stack_settings import StackSettings

_JOIN_LIMIT_S: Final = 30.0
_TYPES: Final[Mapping[JobKind, str]] = {"recorder": "recording", "transcriber": "transcribing"}
_ID_VARIABLES: Final[Mapping[JobKind, str]] = {
    "recorder": "RECORDING_ID",
    "transcriber": "TRANSCRIPTION_ID",
}
_SETTINGS: Final[Mapping[JobKind, Mapping[str, str]]] = {
    "recorder": {
        "WIDTH": "1280",
        "HEIGHT": "720",
        "FRAME_RATE": "10",
        "VIDEO_PRESET": "ultrafast",
    },
    "transcriber": {"MODEL_SIZE": "base", "NUM_THREADS": "1", "PUBLISH_AFTER_S": "1"},
}


class Ground:
    """A running call; made by `ground`."""

    def __init__(
        self, stack: Stack, world: World, http: httpx.AsyncClient, job: JobKind, truth: Path
    ) -> None:
        self.stack = stack
        self.job: JobKind = job
        self.truth_file = truth
        document = json.loads(stack.settings.world_file.read_text(encoding="utf-8"))
        self.token: str = document["bot"]["token"]
        """The newest one of the bot."""
        self._world = world
        self._http = http

    @property
    def jobs_dir(self) -> Path:
        return self.stack.settings.work_dir / "victims"

    @property
    def program(self) -> list[str]:
        return [sys.executable, "-m", f"jobs.{self.job}"]

    async def new_job(self, **variables: str) -> dict[str, str]:
        """The environment of one more job of the call."""
        answer = await self._post("/testbed/spare_jobs", {"type": _TYPES[self.job]})
        settings = self.stack.settings
        return {
            **{key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ},
            **_SETTINGS[self.job],
            "PYTHONUNBUFFERED": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "SITE_URL": settings.site_url,
            "CALL_ID": answer["channel_id"],
            "POST_ID": answer["post_id"],
            "AUTH_TOKEN": self.token,
            _ID_VARIABLES[self.job]: answer["job_id"],
            "DATA_DIR": str(self.jobs_dir),
            "MODELS_DIR": str(settings.models_dir),
            **variables,
        }

    def job_id(self, environ: Mapping[str, str]) -> str:
        return environ[_ID_VARIABLES[self.job]]

    async def stop(self, job_id: str) -> None:
        """As the host does."""
        await self._post(f"/testbed/spare_jobs/{job_id}/stop", {})

    async def zero_ms(self, job_id: str) -> int:
        """Time zero of what it records or writes, on the server's clock; 0: it has not started."""
        state = (await self._http.get(f"/testbed/spare_jobs/{job_id}")).raise_for_status().json()
        # A recording begins with its own report, a transcript with the recording.
        return int(state["start_at"] and state["start_at" if self.job == "recorder" else "init_at"])

    async def error_of(self, job_id: str) -> str:
        """With what text it was reported as failed."""
        state = (await self._http.get(f"/testbed/spare_jobs/{job_id}")).raise_for_status().json()
        return str(state["err"])

    async def faults(self, **values: Any) -> None:
        await self._post("/testbed/faults", values)

    async def renew_token(self) -> None:
        """As a restart of the plugin; returns when the new token is known."""
        self.token = (await self._post("/testbed/renew_bot", {}))["token"]

    async def posts_of(self, job_id: str) -> list[dict[str, Any]]:
        """What was posted of a job's."""
        found = (await self._http.get(f"/testbed/posts/{self._world.channel_id}")).json()
        keys = ("recording_id", "transcription_id")
        return [p for p in found if job_id in [p["props"].get(key) for key in keys]]

    async def content(self, file_id: str) -> bytes:
        return (await self._http.get(f"/testbed/files/{file_id}")).raise_for_status().content

    async def _post(self, path: str, body: Any) -> Any:
        return (await self._http.post(path, json=body)).raise_for_status().json()


@asynccontextmanager
async def ground(job: JobKind, directory: Path, *, quiet: bool = False) -> AsyncIterator[Ground]:
    """A call with bots that beep and flash, or talk, for up to half an hour. Its files are in `directory`.

    `quiet`: they do nothing at all.

    Raises:
        StartFailed: something did not come up.
    """
    work_dir, logs, truth = directory / "work", directory / "logs", directory / "truth.jsonl"
    for path in (work_dir / "victims", logs):
        path.mkdir(parents=True)
    settings = StackSettings(
        work_dir=work_dir,
        log_dir=logs,
        models_dir=provide_models(DemoOptions(), work_dir),
        ports=Ports.free(),
    )
    plan = QUIET if quiet else MARKS if job == "recorder" else TALK
    async with Stack(settings) as stack:
        world = read_world(settings.world_file)
        arguments = ["testbed.bots", "--world", str(settings.world_file)]
        arguments += ["--site-url", settings.site_url, "--scenario", plan.name]
        arguments += ["--truth", str(truth), "--speech", str(CLIPS_DIRECTORY)]
        bots = await stack.start_talker("bots", arguments)
        assert bots.stdin is not None
        assert bots.stdout is not None
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(
            base_url=settings.site_url, trust_env=False, timeout=20, limits=limits
        ) as http:
            async with asyncio.timeout(_JOIN_LIMIT_S):
                joined = 0
                while joined < len(plan.bots):
                    line = await bots.stdout.readline()
                    if not line:
                        raise StartFailed(f"the bots ended; see {stack.log_of('bots')}")
                    joined += b'"joined"' in line
            swallowing = asyncio.create_task(_swallow(bots.stdout))
            bots.stdin.write(b"go\n")
            # One uploads and publishes at a human pace, so that a kill can hit it.
            standing = Ground(stack, world, http, job, truth)
            await standing.faults(upload_chunk_delay_ms=80, publish_delay_ms=600)
            try:
                yield standing
            finally:
                stack.release("bots")
                swallowing.cancel()
                await asyncio.gather(swallowing, return_exceptions=True)


async def _swallow(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass
