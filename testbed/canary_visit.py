"""A whole call with canaries in it: a token, names and sentences, which only its results may hold."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

import httpx

from testbed.canary import Canary, CanarySearch, is_in
from testbed.canary_places import (
    job_in_container,
    look_at_answers,
    look_at_containers,
    look_at_files,
    look_at_metrics,
    look_at_processes,
    look_at_support_bundle,
    reading_events,
    reading_redis,
)
from testbed.otlp_receiver import OtlpReceiver
from testbed.polling import until
from testbed.ports import HOST
from testbed.stack import Stack
from testbed.stack_settings import offloader_environment

NAMES: Final = {
    "alice": ("Zuzannabel", "Qanärytska"),
    "bob": ("Thorvaldurin", "Ølsgaard-Kvist"),
}
SENTENCES: Final = (
    "the new budget will need more review",
    "the customer will need the update today",
    "please share the plan with everyone",
    "thank you everyone the meeting is done",
)
PLUGIN: Final = "standin"
"""The client ID of the stand-in."""
SPARE: Final = "spare"
"""Of who starts the job that crashes."""
_RESCUED: Final = b"the job was ended by signal"
"""What the parent process in a container says before it finishes a job."""
_CAPTIONS: Final = 2
_LIMIT_S: Final = 20.0


class CanaryVisit:
    """See `Visitor`; an async context manager around the run. After it: `finish`, then `search.found`."""

    names: Mapping[str, tuple[str, str]] = NAMES

    def __init__(
        self,
        directory: Path,
        traces: OtlpReceiver,
        *,
        crash: bool = False,
        bundle: bool = False,
        **environment: str,
    ) -> None:
        """`crash`: one more transcriber joins the call and is aborted; not on Kubernetes. `bundle`: make a
        support bundle as well."""
        self._directory = directory
        self._traces = traces
        self._crash = crash
        self._bundle = bundle
        self.offloader_environment: Mapping[str, str] = {
            "LOGGER_CONSOLELEVEL": "debug",
            "TRACING_OTLPENDPOINT": traces.url,
            **environment,
        }
        self.plugin_environment: Mapping[str, str] = {
            f"MM_CALLS_{job}_LOG_LEVEL": "debug" for job in ("RECORDER", "TRANSCRIBER")
        }
        words = [Canary(f"sentence {n}", text, True) for n, text in enumerate(SENTENCES)]
        self.heard = words
        people = [Canary(f"name of {u}", name) for u, both in NAMES.items() for name in both]
        self.people = people
        self.search = CanarySearch([*words, *people])
        self._open = AsyncExitStack()
        self._http: httpx.AsyncClient | None = None
        self._channel_id = ""
        self._crashed: tuple[Path, ...] = ()
        """Of a job that has published nothing, and may be in its rescue: its directory is private to it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def before(self, stack: Stack) -> None:
        """Learn the token, and begin to listen."""
        world = json.loads(stack.settings.world_file.read_text())
        self._token = world["bot"]["token"]
        self._channel_id = world["channel_id"]
        self.search = CanarySearch([Canary("token", self._token), *self.heard, *self.people])
        transport = httpx.AsyncHTTPTransport(uds=str(stack.settings.admin_socket))
        admin = httpx.AsyncClient(base_url="http://offloader", transport=transport)
        self._http = await self._open.enter_async_context(admin)
        await self._open.enter_async_context(reading_events(self.search, admin))
        if stack.settings.has_workers:
            port = stack.settings.ports.broker
            await self._open.enter_async_context(reading_redis(self.search, port))

    async def during(self, stack: Stack) -> None:
        """Wait until speech has become text, then look at everything that tells of running jobs."""
        async with self._site(stack) as site:

            async def captioned() -> bool:
                return len((await site.get("/testbed/captions")).json()) >= _CAPTIONS

            await until(captioned, "captions", limit_s=_LIMIT_S)
            if self._crash:
                await self._crash_a_job(stack, site)
        await self._look(stack)

    async def after(self, stack: Stack) -> None:
        """Look once more; as the plugin itself as well."""
        assert self._http is not None
        await self._look(stack)
        key = secrets.token_urlsafe(32)
        wish = {"clientID": PLUGIN, "authKey": key}
        (await self._http.post("/admin/clients/rotate", json=wish)).raise_for_status()
        url = f"http://{HOST}:{stack.settings.ports.offloader}"
        async with httpx.AsyncClient(base_url=url, auth=(PLUGIN, key), trust_env=False) as client:
            listed = (await client.get("/jobs")).raise_for_status().json()["jobs"]
            assert len(listed) >= 2, "the call's jobs are its own"
            await look_at_answers(self.search, "client", client)
        if self._bundle:
            await look_at_support_bundle(
                self.search,
                self._directory / "offloader-support.tar.gz",
                socket_path=stack.settings.admin_socket,
                environment={
                    **offloader_environment(stack.settings),
                    "STATE_DIRECTORY": str(stack.settings.work_dir),
                },
            )

    def finish(self, output: Path, *stores: Path) -> None:
        """Everything has ended: look at what is left in `output` and in `stores`, other servers' directories.
        Blocks.

        Raises:
            AssertionError: the canaries were not in the call at all.
        """
        texts = b"".join((output / f"transcript.{kind}").read_bytes() for kind in ("vtt", "txt"))
        for canary in (*self.heard[:1], *self.people):
            assert is_in(canary, texts), (
                f"{canary.what} is not in the transcript: nothing is proved"
            )
        assert self._traces.told, "no traces have come"
        self.search.look("traces", self._traces.told)
        work = output / "work"
        testbed: tuple[Path, ...] = (work / "stand-in", work / "models", work / "tls")
        testbed += self._crashed
        theirs = [output / "logs" / f"{name}.log" for name in ("plugin", "bots")]
        look_at_files(self.search, "logs", output / "logs", without=theirs)
        look_at_files(self.search, "service's files", work, without=testbed)
        for store in stores:
            look_at_files(self.search, "store", store, without=())

    async def _look(self, stack: Stack) -> None:
        assert self._http is not None
        settings = stack.settings
        await asyncio.to_thread(look_at_processes, self.search)
        if settings.backend == "docker":
            await asyncio.to_thread(look_at_containers, self.search, instance=settings.instance)
        await look_at_answers(self.search, "admin", self._http)
        doors = [f"http://{HOST}:{port}" for port in settings.workers.values()]
        await look_at_metrics(self.search, f"http://{HOST}:{settings.ports.sfu}", *doors)

    def _site(self, stack: Stack) -> httpx.AsyncClient:
        trusted = ssl.create_default_context(cafile=stack.settings.ca_file)
        return httpx.AsyncClient(
            base_url=stack.settings.site_url, verify=trusted, trust_env=False, timeout=_LIMIT_S
        )

    async def _crash_a_job(self, stack: Stack, site: httpx.AsyncClient) -> None:
        """One more transcriber that knows the token ends by SIGABRT; what it recorded has no post."""
        assert self._http is not None
        made = await site.post("/testbed/spare_jobs", json={"type": "transcribing"})
        spare = made.raise_for_status().json()
        wish = {
            "type": "transcribing",
            "runner": "mattermost/calls-transcriber:v0.7.2",
            "max_duration_sec": 600,
            "input_data": {
                "site_url": stack.settings.site_url,
                "call_id": self._channel_id,
                "post_id": "x" * 26,
                "transcription_id": spare["job_id"],
                "auth_token": self._token,
                "model_size": "tiny",
                "log_level": "debug",
            },
        }
        url = f"http://{HOST}:{stack.settings.ports.offloader}"
        async with httpx.AsyncClient(
            base_url=url, auth=(SPARE, "k" * 32), trust_env=False, timeout=_LIMIT_S
        ) as client:
            created = await client.post("/jobs", json=wish)
            assert created.status_code == httpx.codes.OK, created.text
            job_id = created.json()["id"]
            stack.strangers.add(job_id)

            async def started() -> bool:
                return bool(
                    (await site.get(f"/testbed/spare_jobs/{spare['job_id']}")).json()["start_at"]
                )

            await until(started, "the spare job's start", limit_s=_LIMIT_S)
            os.kill(await asyncio.to_thread(self._pid, stack, job_id), signal.SIGABRT)
            self._crashed = tuple(place / job_id for place in stack.settings.jobs_dirs)

            async def crashed() -> bool:
                details = (await client.get(f"/jobs/{job_id}?details=1")).json()
                return details["state"] == "finished" or _RESCUED in await logged()

            async def logged() -> bytes:
                return (await client.get(f"/jobs/{job_id}/logs")).content

            await until(crashed, "the spare job's crash", limit_s=_LIMIT_S)
            self.search.look("crash output", await logged())

    @staticmethod
    def _pid(stack: Stack, job_id: str) -> int:
        if stack.settings.backend == "docker":
            return job_in_container(f"calls-transcriber-{job_id}")
        for directory in stack.settings.jobs_dirs:
            shim = directory / job_id / "shim.json"
            if shim.is_file():
                return int(json.loads(shim.read_text())["child_pid"])
        raise AssertionError(f"{job_id} is no process of this host")
