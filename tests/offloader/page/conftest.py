"""The service with its page behind a real port or none, and a browser's way to ask it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from foundation.clock import ManualClock
from offloader.app import Offloader, running_offloader
from offloader.backends.stub import StubBackend
from offloader.settings import load_settings

ADMIN_KEY = "the-admin's-own-key-of-this-test"
ORIGIN = "http://offloader"
JOB = {
    "type": "recording",
    "runner": "mattermost/calls-recorder:v0.8.13",
    "max_duration_sec": 3600,
    "input_data": {"call_id": "call1", "post_id": "post1", "auth_token": "hidden-token"},
}


@dataclass
class Paged:
    """The service, and somebody's browser: it keeps cookies and sends `Origin` with every POST."""

    offloader: Offloader
    http: httpx.AsyncClient
    backend: StubBackend
    clock: ManualClock

    async def post(self, path: str, json: Any = None, **headers: str) -> httpx.Response:
        return await self.http.post(path, json=json, headers={"Origin": ORIGIN} | headers)

    async def login(self, key: str = ADMIN_KEY, **headers: str) -> httpx.Response:
        return await self.post("/page/login", {"key": key}, **headers)

    async def create_job(self) -> str:
        answer = await self.http.post("/jobs", json=JOB, auth=("plugin", "k" * 32))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])


Open = Callable[..., Awaitable[Paged]]


@pytest.fixture
async def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """`await opened(API_…="…")`; without an ASGI transport nothing listens anywhere."""
    monkeypatch.setattr("offloader.supervisor.POLL_INTERVAL_S", 3600.0)
    async with AsyncExitStack() as stack:

        async def open_one(base_url: str = ORIGIN, **environ: str) -> Paged:
            shutil.rmtree(tmp_path / "store", ignore_errors=True)
            here = {
                "STORE_DATASOURCE": str(tmp_path / "store" / "store.db"),
                "JOBS_PROCESS_JOBSDIR": str(tmp_path / "jobs"),
                "API_SECURITY_ALLOWSELFREGISTRATION": "true",
                "API_SECURITY_ENABLEADMIN": "true",
                "API_SECURITY_ADMINSECRETKEY": ADMIN_KEY,
                "JOBS_ADMISSIONWAITS": "0",
            }
            (tmp_path / "store").mkdir()
            settings = load_settings(tmp_path / "none.toml", here | environ)
            backend, clock = StubBackend(), ManualClock()
            offloader = await stack.enter_async_context(
                running_offloader(settings, environ={}, clock=clock, backend=backend)
            )
            transport = httpx.ASGITransport(offloader.app, raise_app_exceptions=False)
            http = httpx.AsyncClient(transport=transport, base_url=base_url)
            await stack.enter_async_context(http)
            return Paged(offloader, http, backend, clock)

        yield open_one


@pytest.fixture
async def paged(opened: Open) -> Paged:
    """Nobody is logged in yet."""
    return await opened()


@pytest.fixture
async def admin(paged: Paged) -> Paged:
    """Somebody is."""
    assert (await paged.login()).status_code == 200
    return paged
