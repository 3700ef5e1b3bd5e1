"""Two services as real processes on one PostgreSQL: what one knows the other answers, and takes over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.e2e

AUTH = ("plugin", "k" * 32)
JOB = {
    "type": "recording",
    "runner": "mattermost/calls-recorder:v0.8.13",
    "max_duration_sec": 600,
    "input_data": {"call_id": "c", "post_id": "p", "auth_token": "hidden-token"},
}
SCRIPT = "echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done; echo done"
TAKE_OVER_S = 15.0


@dataclass
class Replica:
    process: asyncio.subprocess.Process
    http: httpx.AsyncClient
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

    async def job(self, job_id: str) -> dict[str, Any]:
        response = await self.http.get(f"/jobs/{job_id}", auth=AUTH)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    async def end(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
            assert self.process.stderr is not None
            await self.process.stderr.read()
            await self.process.wait()
        await self.http.aclose()


async def started(directory: Path, database: str) -> Replica:
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
            "JOBS_APITYPE": "process",
            "JOBS_PROCESS_JOBSDIR": f"{directory}/jobs",
            "JOBS_PROCESS_RECORDERCOMMAND": json.dumps(["/bin/sh", "-c", SCRIPT]),
            "LOGGER_ENABLEFILE": "false",
            "LOGGER_CONSOLEJSON": "true",
        },
        cwd=directory,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
    replica = Replica(process, http)
    await replica.line("offloader: listening on")
    return replica


def _let_jobs_end(directory: Path) -> None:
    for path in directory.glob("jobs/*/data"):
        (path / "go").touch()


@pytest.fixture
async def replicas(postgres: Any, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    database = postgres.new_database()
    async with AsyncExitStack() as stack:
        both = await asyncio.gather(*(started(tmp_path, database) for _ in range(2)))
        for replica in both:
            stack.push_async_callback(replica.end, signal.SIGKILL)
        yield both
    _let_jobs_end(tmp_path)


@pytest.mark.timeout(60)
async def test_the_survivor_of_a_kill_takes_over_in_time(
    replicas: list[Replica], tmp_path: Path
) -> None:
    one, two = replicas
    created = await one.http.post("/jobs", json=JOB, auth=AUTH)
    assert created.status_code == 200, created.text
    job_id = created.json()["id"]
    login = {"clientID": AUTH[0], "authKey": AUTH[1]}
    bearer = (await one.http.post("/login", json=login)).json()["bearerToken"]
    seen = await two.http.get(f"/jobs/{job_id}", headers={"Authorization": f"Bearer {bearer}"})
    assert seen.status_code == 200, "the other knows the session and the job"

    await one.end(signal.SIGKILL)
    killed_s = time.monotonic()
    line = await two.line("supervisor.taken_over")
    took_s = time.monotonic() - killed_s
    assert job_id in line
    assert took_s < TAKE_OVER_S

    (tmp_path / "jobs" / job_id / "data" / "go").touch()
    await two.line("job.finished")
    ended = await two.job(job_id)
    assert ended["stop_at"] > 0
