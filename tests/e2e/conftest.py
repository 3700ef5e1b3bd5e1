"""Services as real processes, several of them on one database; the images that jobs run in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from testbed.fleet import Fleet
from testbed.stack_settings import IMAGES, WORKER_IMAGE

AUTH = ("plugin", "k" * 32)


@dataclass
class Replica:
    """One of them, and its client."""

    process: asyncio.subprocess.Process
    http: httpx.AsyncClient
    """Authenticates itself by `AUTH`."""
    lines: list[str] = field(default_factory=list)

    async def line(self, text: str) -> str:
        """The next line of its log that holds `text`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            while line := (await self.process.stderr.readline()).decode():
                self.lines.append(line)
                if text in line:
                    return line
        raise AssertionError(f"ended without {text!r}: {self.lines[-20:]}")

    async def create(self, **wish: Any) -> str:
        """The ID of a new job."""
        created = await self.http.post("/jobs", json=wish)
        assert created.status_code == 200, created.text
        return str(created.json()["id"])

    async def login(self) -> str:
        """A bearer token of the same client."""
        body = {"clientID": AUTH[0], "authKey": AUTH[1]}
        answer = await self.http.post("/login", json=body, auth=None)
        return str(answer.json()["bearerToken"])

    async def job(self, job_id: str) -> dict[str, Any]:
        response = await self.http.get(f"/jobs/{job_id}")
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    async def details(self, job_id: str) -> dict[str, Any]:
        """What the reference has not: state, stop reason, exit code."""
        jobs = (await self.http.get("/jobs")).raise_for_status().json()["jobs"]
        (found,) = (job for job in jobs if job["id"] == job_id)
        return dict(found)

    async def finished(self, job_id: str) -> dict[str, Any]:
        """Its details, as soon as it has finished."""
        async with asyncio.timeout(30):
            while (found := await self.details(job_id))["state"] != "finished":
                await asyncio.sleep(0.1)
        return found

    async def end(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
            assert self.process.stderr is not None
            await self.process.stderr.read()
            await self.process.wait()
        await self.http.aclose()


StartReplica = Callable[..., Awaitable[Replica]]


async def _start(directory: Path, *, database: str, **environ: str) -> Replica:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "offloader", "serve"),
        env={
            "PATH": os.environ["PATH"],
            "STATE_DIRECTORY": str(directory),
            "API_HTTP_LISTENADDRESS": f"127.0.0.1:{port}",
            "API_SECURITY_ALLOWSELFREGISTRATION": "true",
            "STORE_DATASOURCE": database,
            "LOGGER_ENABLEFILE": "false",
            "LOGGER_CONSOLEJSON": "true",
            **environ,
        },
        cwd=directory,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, auth=AUTH)
    replica = Replica(process, http)
    await replica.line("offloader: listening on")
    return replica


@pytest.fixture
async def start_replica(tmp_path: Path) -> AsyncIterator[StartReplica]:
    """Starts a service in the test's directory: `await start_replica(database=URL, VARIABLE=value, …)`."""
    async with AsyncExitStack() as stack:

        async def start(**environ: str) -> Replica:
            replica = await _start(tmp_path, **environ)
            stack.push_async_callback(replica.end, signal.SIGKILL)
            return replica

        yield start


@pytest.fixture
async def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Fleet, Any]]:
    """A fleet and its broker: Redis, or what the test names by an indirect parameter, a fixture."""
    broker = request.getfixturevalue(getattr(request, "param", "redis_server"))
    async with Fleet(tmp_path / "fleet", broker_url=broker.url) as started:
        yield started, broker


@pytest.fixture(scope="session")
def own_images(tiny_images: Any, engine_missing: Callable[[str, str], None]) -> docker.APIClient:
    """A real Docker Engine that has the images of this release."""
    client: docker.APIClient = tiny_images.client
    for name in (*IMAGES, WORKER_IMAGE):
        if not client.images(name):
            engine_missing("docker", f"{name} is not on the engine: run `make images`")
    return client
