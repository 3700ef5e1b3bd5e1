"""A plugin restart revokes the token in mid-call: nothing is lost, and the next recording heals it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from callclient.plugin_api import PluginApi
from testbed.bots.world import World, read_world
from testbed.demo.options import DemoOptions, provide_models
from testbed.job_watch import find_jobs
from testbed.ports import Ports
from testbed.speech.clips import CLIPS_DIRECTORY
from testbed.stack import Stack
from testbed.stack_settings import StackSettings

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(150)]


class Stage:
    """A running stack with bots that talk, and what the test asks of it."""

    def __init__(self, stack: Stack, world: World, http: httpx.AsyncClient) -> None:
        self.stack = stack
        self.world = world
        self._http = http

    async def call(self) -> dict[str, Any]:
        response = await self._http.get(f"/testbed/calls/{self.world.channel_id}")
        found: dict[str, Any] = response.raise_for_status().json()
        return found

    async def until_jobs(self, field: str) -> None:
        """Until both jobs of the call have `start_at` or `end_at`."""

        async def reached() -> bool:
            jobs = (await self.call()).get("jobs", {})
            kinds = ("recording", "transcribing")
            return all(jobs.get(kind, {}).get(field, 0) > 0 for kind in kinds)

        await until(reached)

    async def restart_plugin(self) -> None:
        """As its users see it: the bot's token is another one from now on."""
        (await self._http.post("/testbed/renew_bot")).raise_for_status()

    async def posts(self, kind: str) -> list[dict[str, Any]]:
        response = await self._http.get(f"/testbed/posts/{self.world.channel_id}")
        found: list[dict[str, Any]] = response.raise_for_status().json()
        return [post for post in found if post["type"] == kind]

    async def content(self, file_id: str) -> bytes:
        return (await self._http.get(f"/testbed/files/{file_id}")).raise_for_status().content


async def until(condition: Callable[[], Any], *, limit_s: float = 60.0) -> None:
    async with asyncio.timeout(limit_s):
        while not await condition():
            await asyncio.sleep(0.1)


@asynccontextmanager
async def talking(directory: Path) -> AsyncIterator[Stage]:
    work_dir = directory / "work"
    for path in (work_dir, directory / "logs"):
        path.mkdir(parents=True)
    settings = StackSettings(
        work_dir=work_dir,
        log_dir=directory / "logs",
        models_dir=provide_models(DemoOptions(), work_dir),
        ports=Ports.free(),
    )
    async with Stack(settings) as stack:
        world = read_world(settings.world_file)
        arguments = ["testbed.bots", "--world", str(settings.world_file)]
        arguments += ["--site-url", settings.site_url, "--scenario", "short"]
        arguments += ["--truth", str(directory / "truth.jsonl"), "--speech", str(CLIPS_DIRECTORY)]
        bots = await stack.start_talker("bots", arguments)
        async with httpx.AsyncClient(base_url=settings.site_url, trust_env=False) as http:
            stage = Stage(stack, world, http)

            async def joined() -> bool:
                return len((await stage.call()).get("sessions", [])) >= 2

            await until(joined)
            assert bots.stdin is not None
            bots.stdin.write(b"go\n")
            yield stage


async def test_a_token_revoked_before_the_upload_is_healed_by_the_next_recording(
    tmp_path: Path,
) -> None:
    async with talking(tmp_path) as stage:
        host = stage.world.users[stage.world.host]
        channel_id = stage.world.channel_id
        async with PluginApi(site_url=stage.stack.settings.site_url, auth_token=host.token) as api:
            await api.start_recording(channel_id)
            await stage.until_jobs("start_at")
            await asyncio.sleep(6)  # somebody says something
            await stage.restart_plugin()
            await api.stop_recording(channel_id)
            jobs_dir = stage.stack.settings.jobs_dir

            async def ended() -> bool:
                jobs = find_jobs(jobs_dir)
                return len(jobs) == 2 and all(job.exit is not None for job in jobs)

            await until(ended)
            first = {job.name: job for job in find_jobs(jobs_dir)}
            assert {job.exit["exit_code"] for job in first.values() if job.exit} == {1}
            assert await stage.posts("custom_calls_recording") == []
            kept = _kept(first["recorder"].directory, "recording.mp4")
            transcript = _kept(first["transcriber"].directory, "transcript.vtt")

            await api.start_recording(channel_id)

            async def healed() -> bool:
                return bool(
                    await stage.posts("custom_calls_recording")
                    and await stage.posts("custom_calls_transcription")
                )

            await until(healed)
            (recording,) = await stage.posts("custom_calls_recording")
            (transcription,) = await stage.posts("custom_calls_transcription")
            mp4 = await stage.content(recording["file_ids"][0])
            vtt = await stage.content(transcription["props"]["captions"][0]["file_id"])
            assert hashlib.sha256(mp4).hexdigest() == kept
            assert hashlib.sha256(vtt).hexdigest() == transcript

            async def forgotten() -> bool:
                return not any(first["recorder"].directory.glob("data/*/job.json"))

            await until(forgotten)
            await stage.until_jobs("start_at")
            await api.stop_recording(channel_id)

            async def both() -> bool:
                return len(await stage.posts("custom_calls_recording")) == 2

            await until(both)
    records = [
        json.loads(line) for line in (tmp_path / "logs" / "offloader.log").read_text().splitlines()
    ]
    published = [record for record in records if record["event"] == "outbox.published"]
    assert len(published) == 2


def _kept(directory: Path, name: str) -> str:
    (path,) = directory.glob(f"data/*/{name}")
    return hashlib.sha256(path.read_bytes()).hexdigest()
