"""A plugin restart revokes the token in mid-call: nothing is lost, and the next recording heals it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from callclient.plugin_api import PluginApi
from testbed.bots.world import World, read_world
from testbed.demo.options import DemoOptions, provide_models
from testbed.otlp_receiver import OtlpReceiver, otlp_receiver
from testbed.ports import Ports
from testbed.speech.clips import CLIPS_DIRECTORY
from testbed.stack import Stack
from testbed.stack_settings import StackSettings

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(200)]

POSTS = {"recording": "custom_calls_recording", "transcribing": "custom_calls_transcription"}


class Stage:
    """A running stack with bots that talk, and what the test asks of it."""

    def __init__(
        self, stack: Stack, world: World, http: httpx.AsyncClient, admin: httpx.AsyncClient
    ) -> None:
        """`http` reaches the site, `admin` the job service, by its local socket."""
        self.stack = stack
        self.world = world
        self._http = http
        self._admin = admin

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

    async def jobs(self) -> list[dict[str, Any]]:
        """What the job service knows of each, newest first."""
        found = (await self._admin.get("/jobs")).raise_for_status().json()
        return list(found["jobs"])

    async def artifacts(self, job: Mapping[str, Any]) -> list[str]:
        """The names of what it left."""
        response = await self._admin.get(f"/jobs/{job['id']}/artifacts")
        return [file["name"] for file in response.raise_for_status().json()["artifacts"]]

    async def kept(self, job: Mapping[str, Any], name: str) -> str:
        """SHA-256 of a file that the job has left."""
        (path,) = [a for a in await self.artifacts(job) if a.endswith(f"/{name}")]
        response = await self._admin.get(f"/jobs/{job['id']}/artifacts/{path}")
        return hashlib.sha256(response.raise_for_status().content).hexdigest()


async def until(condition: Callable[[], Any], *, limit_s: float = 60.0) -> None:
    async with asyncio.timeout(limit_s):
        while not await condition():
            await asyncio.sleep(0.1)


@asynccontextmanager
async def talking(directory: Path, backend: str) -> AsyncIterator[Stage]:
    work_dir = directory / "work"
    for path in (work_dir, directory / "logs"):
        path.mkdir(parents=True)
    settings = StackSettings(
        work_dir=work_dir,
        log_dir=directory / "logs",
        models_dir=provide_models(DemoOptions(backend=backend), work_dir),
        ports=Ports.free(),
        backend=backend,
        tls=backend == "docker",
    )
    async with Stack(settings) as stack:
        world = read_world(settings.world_file)
        arguments = ["testbed.bots", "--world", str(settings.world_file)]
        arguments += ["--site-url", settings.site_url, "--scenario", "short"]
        arguments += ["--truth", str(directory / "truth.jsonl"), "--speech", str(CLIPS_DIRECTORY)]
        bots = await stack.start_talker("bots", arguments)
        trusted = ssl.create_default_context(cafile=settings.ca_file)
        local = httpx.AsyncHTTPTransport(uds=str(settings.admin_socket))
        async with (
            httpx.AsyncClient(base_url=settings.site_url, trust_env=False, verify=trusted) as http,
            httpx.AsyncClient(base_url="http://offloader", transport=local) as admin,
        ):
            stage = Stage(stack, world, http, admin)

            async def joined() -> bool:
                return len((await stage.call()).get("sessions", [])) >= 2

            await until(joined)
            assert bots.stdin is not None
            bots.stdin.write(b"go\n")
            yield stage


@pytest.fixture(params=["process", "docker"])
def backend(request: pytest.FixtureRequest) -> str:
    """How the job service runs jobs; with docker in the images of this release."""
    if request.param == "docker":
        request.getfixturevalue("own_images")
    return str(request.param)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    """Where the service and its jobs send their spans."""
    with otlp_receiver() as receiver:
        monkeypatch.setenv("TRACING_OTLPENDPOINT", receiver.url)
        yield receiver


async def test_a_token_revoked_before_the_upload_is_healed_by_the_next_recording(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path, collector: OtlpReceiver
) -> None:
    async with talking(tmp_path, backend) as stage:
        host = stage.world.users[stage.world.host]
        channel_id = stage.world.channel_id
        settings = stage.stack.settings
        async with PluginApi(
            site_url=settings.site_url, auth_token=host.token, ca_file=settings.ca_file
        ) as api:
            await api.start_recording(channel_id)
            await stage.until_jobs("start_at")
            await asyncio.sleep(6)  # somebody says something
            await stage.restart_plugin()
            await api.stop_recording(channel_id)

            async def ended() -> bool:
                jobs = await stage.jobs()
                return len(jobs) == 2 and all(job["state"] == "finished" for job in jobs)

            await until(ended)
            first = {job["type"]: job for job in await stage.jobs()}
            assert {(j["exit_code"], j["unpublished"]) for j in first.values()} == {(1, True)}
            assert await stage.posts(POSTS["recording"]) == []
            film = await stage.kept(first["recording"], "recording.mp4")
            transcript = await stage.kept(first["transcribing"], "transcript.vtt")

            await api.start_recording(channel_id)

            async def healed() -> bool:
                return all([await stage.posts(kind) for kind in POSTS.values()])

            await until(healed)
            (recording,) = await stage.posts(POSTS["recording"])
            (transcription,) = await stage.posts(POSTS["transcribing"])
            mp4 = await stage.content(recording["file_ids"][0])
            vtt = await stage.content(transcription["props"]["captions"][0]["file_id"])
            assert hashlib.sha256(mp4).hexdigest() == film
            assert hashlib.sha256(vtt).hexdigest() == transcript

            async def forgotten() -> bool:
                jobs = {job["id"]: job for job in await stage.jobs()}
                return not any(jobs[job["id"]]["unpublished"] for job in first.values())

            await until(forgotten)
            assert [await stage.artifacts(job) for job in first.values()] == [[], []]
            if backend == "docker":
                client = request.getfixturevalue("own_images")
                _assert_hardened(client, settings.instance, token=_bot_token(settings.world_file))
            await stage.until_jobs("start_at")
            await api.stop_recording(channel_id)

            async def both() -> bool:
                return len(await stage.posts(POSTS["recording"])) == 2

            await until(both)
    records = [
        json.loads(line) for line in (tmp_path / "logs" / "offloader.log").read_text().splitlines()
    ]
    published = [record for record in records if record["event"] == "outbox.published"]
    assert len(published) == 2
    for kind, service in (("recording", "recorder"), ("transcribing", "transcriber")):
        _assert_traced(collector, kind, service=f"calls-{service}")


def _assert_traced(collector: OtlpReceiver, kind: str, *, service: str) -> None:
    """The upload says that it failed; who finished the job is part of its trace, and linked to it."""
    salvage = collector.one("salvage", service=service)
    (job,) = [s for s in collector.named(f"{kind} job") if s.trace_id == salvage.trace_id]
    assert salvage.links == (job.span_id,)
    assert salvage.parent_id == job.parent_id
    inner = [s for s in collector.spans if s.parent_id == job.span_id]
    (failed,) = [s for s in inner if s.failed]
    assert (failed.name, failed.message) == ("upload", "ApiError")
    assert failed.attributes["http.response.status_code"] == 401
    assert job.failed
    again = {s.name for s in collector.spans if s.parent_id == salvage.span_id}
    assert again == {"upload", "publish"}
    (republish,) = [s for s in collector.named("republish") if s.trace_id == job.trace_id]
    assert (republish.parent_id, republish.failed) == (job.parent_id, False)


def _bot_token(world_file: Path) -> str:
    """The one that the first two jobs got."""
    token: str = json.loads(world_file.read_text())["bot"]["token"]
    return token


def _assert_hardened(client: docker.APIClient, instance: str, *, token: str) -> None:
    """Every container of the run, by what its engine tells: two jobs, two salvages, two jobs."""
    filters = {"label": [f"calls-offloader.instance={instance}"]}
    found = [
        client.inspect_container(c["Id"]) for c in client.containers(all=True, filters=filters)
    ]
    assert len(found) == 6
    assert sum("salvage" in details["Name"] for details in found) == 2
    for details in found:
        host = details["HostConfig"]
        assert details["Config"]["User"] == "10001:10001"
        assert (host["CapDrop"], host["ReadonlyRootfs"]) == (["ALL"], True)
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert not any(host[key] for key in ("Privileged", "CapAdd", "Devices"))
        assert min(host["Memory"], host["PidsLimit"]) > 0
        assert token not in json.dumps(details)
        assert not [text for text in details["Config"]["Env"] if text.startswith("AUTH_TOKEN=")]
