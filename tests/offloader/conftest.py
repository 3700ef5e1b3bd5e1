"""A running service on a stub backend, spoken to over HTTP without a socket."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from foundation.clock import ManualClock
from offloader.app import Offloader, running_offloader
from offloader.backends.stub import StubBackend
from offloader.settings import Settings, load_settings
from offloader.store.database import open_database

KEY = "k" * 32
RECORDER = "mattermost/calls-recorder:v0.8.13"
TRANSCRIBER = "mattermost/calls-transcriber:v0.7.2"


@dataclass
class Running:
    """The service and its surroundings."""

    offloader: Offloader
    http: httpx.AsyncClient
    backend: StubBackend
    clock: ManualClock

    @staticmethod
    def basic(client: str, key: str = KEY) -> dict[str, str]:
        """The header of a client."""
        token = base64.b64encode(f"{client}:{key}".encode()).decode()
        return {"Authorization": f"Basic {token}"}

    async def check(self) -> None:
        """One round of the supervisor."""
        await self.offloader.supervisor.check()

    async def post_job(
        self, *, client: str = "plugin", job_type: str = "recording", **changes: Any
    ) -> httpx.Response:
        return await self.http.post(
            "/jobs", json=job_config(job_type, **changes), headers=self.basic(client)
        )

    async def create_job(self, **changes: Any) -> str:
        response = await self.post_job(**changes)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    async def get_job(self, job_id: str, *, client: str = "plugin") -> dict[str, Any]:
        response = await self.http.get(f"/jobs/{job_id}", headers=self.basic(client))
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document


Start = Callable[..., Awaitable[Running]]


def job_config(
    job_type: str = "recording", *, call: str = "call1", post: str = "post1", **changes: Any
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "type": job_type,
        "runner": TRANSCRIBER if job_type == "transcribing" else RECORDER,
        "max_duration_sec": 3600,
        "input_data": {"call_id": call, "post_id": post, "auth_token": "hidden-token"},
    }
    return config | changes


def _settings(directory: Path, environ: Mapping[str, str]) -> Settings:
    here = {
        "STORE_DATASOURCE": str(directory / "store.db"),
        "JOBS_PROCESS_JOBSDIR": str(directory / "jobs"),
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "JOBS_ADMISSIONWAITS": "0",
    }
    return load_settings(directory / "none.toml", here | dict(environ))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a store of this release in which there is nothing yet: to make one takes its steps."""
    path = tmp_path_factory.mktemp("empty") / "store.db"

    async def make() -> None:
        await (await open_database(str(path))).aclose()

    # Not `asyncio.run`, which takes the thread's default loop away.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(make())
    return path


@pytest.fixture
async def start(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Start]:
    """Start services on the same store; they end with the test, or earlier by `Running.end`.

    After the first round, the supervisor's rounds are those that the test asks for.
    """
    monkeypatch.setattr("offloader.supervisor.POLL_INTERVAL_S", 3600.0)
    shutil.copy(empty_store, tmp_path / "store.db")
    async with AsyncExitStack() as stack:

        async def start_one(
            *,
            backend: StubBackend | None = None,
            clock: ManualClock | None = None,
            stack: AsyncExitStack = stack,
            **environ: str,
        ) -> Running:
            backend, clock = backend or StubBackend(), clock or ManualClock()
            settings = _settings(tmp_path, environ)
            offloader = await stack.enter_async_context(
                running_offloader(settings, environ={}, clock=clock, backend=backend)
            )
            transport = httpx.ASGITransport(offloader.app, raise_app_exceptions=False)
            http = httpx.AsyncClient(transport=transport, base_url="http://offloader")
            await stack.enter_async_context(http)
            return Running(offloader, http, backend, clock)

        yield start_one


@pytest.fixture
async def running(start: Start) -> Running:
    """One service that takes two calls."""
    return await start()
