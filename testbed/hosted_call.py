"""A call of the whole product with its host at the buttons: what soaks and benchmarks record or measure.

SFU, job service, stand-in and jobs are processes; who talks is the caller's, or bots in this process.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from callclient.plugin_api import ApiError, PluginApi
from foundation.groups import unwrapped
from testbed.bots.world import World, read_world
from testbed.demo.thread import Thread
from testbed.job_watch import JobProcess, find_jobs
from testbed.polling import until
from testbed.ports import Ports
from testbed.stack import Stack
from testbed.stack_settings import StackSettings

_STEP_LIMIT_S: Final = 40.0
_START_LIMIT_S: Final = 70.0
"""The plugin itself gives up after a minute (calls-plugin.md 6.7)."""
_POST_LIMIT_S: Final = 180.0
_STATE_POLL_S: Final = 0.05
_NOT_YET: Final = "Job service is not initialized"
"""The plugin reaches for the job service in the background of its start (calls-plugin.md 5.7, trap 45)."""


class CallFailed(Exception):
    """The call did not go as planned; the message says what was waited for."""


class HostedCall:
    """Made by `hosted_call`. Every method may raise CallFailed."""

    def __init__(self, stack: Stack, world: World, api: PluginApi, http: httpx.AsyncClient) -> None:
        self.stack = stack
        self.world = world
        self.http = http
        """To the stand-in's routes for tests."""
        self._api = api

    @property
    def channel_id(self) -> str:
        return self.world.channel_id

    async def configure(self, **switches: bool) -> None:
        """Of the plugin, by their names on the wire."""
        (await self.http.post("/testbed/config", json=switches)).raise_for_status()

    async def press_record(self) -> None:
        """The host does, again while the plugin has no job service yet; any other refusal ends it."""

        async def pressed() -> bool:
            try:
                await self._api.start_recording(self.channel_id)
            except ApiError as error:
                if _NOT_YET not in error.reason:
                    raise CallFailed(f"{error}: {error.reason}") from None
                return False
            return True

        await until(pressed, "the job service", limit_s=_STEP_LIMIT_S, failure=CallFailed)

    async def start_recording(self) -> Mapping[str, Any]:
        """Press record. The recording's state as the plugin tells it, `start_at` in ms of the server."""
        await self.press_record()
        return await self._recording("start_at", _START_LIMIT_S)

    async def press_stop(self) -> None:
        """The host does."""
        try:
            await self._api.stop_recording(self.channel_id)
        except ApiError as error:
            raise CallFailed(f"{error}: {error.reason}") from None

    async def stop_recording(self) -> Mapping[str, Any]:
        """Press stop. As `start_recording`, with an `end_at`."""
        await self.press_stop()
        return await self._recording("end_at", _STEP_LIMIT_S)

    async def _recording(
        self, moment: Literal["start_at", "end_at"], limit_s: float
    ) -> Mapping[str, Any]:
        async def reached() -> Mapping[str, Any] | None:
            answer = await self.http.get(f"/testbed/calls/{self.channel_id}")
            job: Mapping[str, Any] = answer.raise_for_status().json()["jobs"]["recording"]
            if job["err"]:
                raise CallFailed(f"the recording failed: {job['err']}")
            return job if job[moment] else None

        return await until(
            reached,
            f"the recording's {moment}",
            limit_s=limit_s,
            every_s=_STATE_POLL_S,
            failure=CallFailed,
        )

    async def all_jobs_ended(self) -> Sequence[JobProcess]:
        """All that were started so far, once nothing of them runs and their exit codes are known."""

        async def ended() -> Sequence[JobProcess] | None:
            jobs = self.stack.jobs()
            return jobs if all(job.exit is not None for job in jobs) else None

        return await until(ended, "the jobs' end", limit_s=_STEP_LIMIT_S, failure=CallFailed)

    async def download_recording(self, target: Path) -> None:
        """Save what was posted, as soon as it is. Raises ThreadError, too."""
        async with Thread(self.stack.settings.site_url, self.channel_id) as thread:

            async def posted() -> str | None:
                return (await thread.results()).recording_file_id

            file_id = await until(
                posted, "the recording's post", limit_s=_POST_LIMIT_S, failure=CallFailed
            )
            await thread.download(file_id, target)


@asynccontextmanager
async def hosted_call(
    directory: Path,
    *,
    models_dir: Path | None = None,
    quality: str = "medium",
    max_recording_minutes: int = 60,
    ports: Ports | None = None,
    backend: str = "process",
    plugin_environment: Mapping[str, str] | None = None,
) -> AsyncIterator[HostedCall]:
    """The product is up; nobody is in the call. What an earlier one left in `directory` goes.

    Args:
        directory: gets `work` (databases, jobs, the stand-in's data) and `logs`, in the end the jobs' too.
        models_dir: with one, a recording starts a transcription too.
        ports: free ones are taken if there are none.
        backend: how the offloader runs jobs, see `StackSettings`.
        plugin_environment: what an admin has set for the jobs there.

    Raises:
        PortTaken, StartFailed: a server did not come up.
        ProcessDied: a needed process is gone.
    """
    work_dir, logs = directory / "work", directory / "logs"
    for path in (work_dir, logs):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True, mode=0o700)
    (work_dir / "models").mkdir()
    settings = StackSettings(
        work_dir=work_dir,
        log_dir=logs,
        models_dir=models_dir or work_dir / "models",
        ports=ports or Ports.free(),
        quality=quality,
        max_recording_minutes=max_recording_minutes,
        transcriptions=models_dir is not None,
        backend=backend,
        plugin_environment=plugin_environment or {},
        offloader_environment={
            "JOBS_KEEPPUBLISHED": "1d"
        },  # files of jobs are looked at afterwards
    )
    try:
        with unwrapped(Exception):
            async with Stack(settings) as stack, asyncio.TaskGroup() as tasks:
                world = read_world(settings.world_file)
                token = world.users[world.host].token
                watching = tasks.create_task(stack.watch(), name="watch")
                async with (
                    PluginApi(site_url=settings.site_url, auth_token=token) as api,
                    httpx.AsyncClient(
                        base_url=settings.site_url, trust_env=False, timeout=20
                    ) as http,
                ):
                    yield HostedCall(stack, world, api, http)
                watching.cancel()
    finally:
        for job in find_jobs(settings.jobs_dir):
            with (logs / f"{job.name}.log").open("ab") as log:
                log.write(job.log.read_bytes())
