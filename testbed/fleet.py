"""Job services and workers as processes on one broker, for tests.

Each has a directory and a log file of its own. Jobs are shell scripts. What a worker runs lies in its own
directory, so a test sees which host has which job.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httpx

from testbed.brokers import free_port
from testbed.certificates import Certificates
from testbed.polling import until
from testbed.ports import HOST
from testbed.processes import Family, send_signal

AUTH: Final = ("plugin", "k" * 32)
RUNNER: Final = "mattermost/calls-recorder:v0.8.13"
SCRIPT: Final = (
    "trap 'echo told to stop; exit 0' TERM; echo ready; "
    "while [ ! -e $DATA_DIR/go ]; do sleep 0.05; done; echo done"
)
"""A job that runs until it is told to stop, or `Host.finish`."""
_LIMIT_S: Final = 30.0
_ANSWER_S: Final = 25.0
_GRACE_S: Final = 5.0


@dataclass
class Member:
    """A process of the fleet."""

    name: str
    url: str
    directory: Path
    process: asyncio.subprocess.Process
    log: Path

    def said(self, event: str) -> list[dict[str, Any]]:
        """The records of its log with that event."""
        return [
            record
            for line in self.log.read_text(errors="replace").splitlines()
            if event in line and (record := _record(line)).get("event") == event
        ]

    async def has_said(self, event: str, *, limit_s: float = _LIMIT_S) -> dict[str, Any]:
        """The last such record, as soon as there is one."""

        async def look() -> list[dict[str, Any]]:
            return self.said(event)

        return (await until(look, f"{event} of {self.name}", limit_s=limit_s))[-1]

    async def kill(self) -> None:
        """As nothing can be caught; what it started runs on."""
        self.process.kill()
        await self.process.wait()

    async def terminate(self) -> None:
        """Ask it to end; does not wait."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, *, limit_s: float = _LIMIT_S) -> int:
        """Its exit code."""
        async with asyncio.timeout(limit_s):
            return await self.process.wait()


@dataclass
class Service(Member):
    """A job service, and a client of it."""

    http: httpx.AsyncClient = field(default_factory=httpx.AsyncClient)

    async def create(self, call_id: str, job_type: str = "recording", **more: Any) -> str:
        """The ID of a new job; raises AssertionError when it is refused."""
        answer = await self.ask(call_id, job_type, **more)
        assert answer.status_code == httpx.codes.OK, answer.text
        return str(answer.json()["id"])

    async def ask(
        self, call_id: str, job_type: str = "recording", *, key: str = "", **input_data: Any
    ) -> httpx.Response:
        """The answer to a wish for a job; `key` is an Idempotency-Key."""
        wish = {
            "type": job_type,
            "runner": RUNNER.replace("recorder", "transcriber")
            if job_type == "transcribing"
            else RUNNER,
            "max_duration_sec": 600,
            "input_data": {"call_id": call_id, "post_id": "p", "auth_token": "t", **input_data},
        }
        headers = {"Idempotency-Key": key} if key else {}
        return await self.http.post("/jobs", json=wish, headers=headers)

    async def details(self, job_id: str) -> dict[str, Any]:
        """State, stop reason, detail and so on."""
        jobs = (await self.http.get("/jobs")).raise_for_status().json()["jobs"]
        (found,) = (job for job in jobs if job["id"] == job_id)
        return dict(found)

    async def in_state(
        self, job_id: str, state: str, *, limit_s: float = _LIMIT_S
    ) -> dict[str, Any]:
        """Its details, as soon as it is in that state."""

        async def look() -> dict[str, Any] | None:
            found = await self.details(job_id)
            return found if found["state"] == state else None

        return await until(look, f"{job_id}: {state}", limit_s=limit_s)

    async def places(self) -> int:
        """How many calls it believes to have room for, all in all."""
        answer = await self.http.get("/capacity")
        limit = answer.raise_for_status().json()["limit"]
        return int(limit)

    async def knows_places(self, wanted: int, *, limit_s: float = _LIMIT_S) -> None:
        """Wait until it believes in that many."""

        async def look() -> bool:
            return await self.places() == wanted

        await until(look, f"{wanted} places", limit_s=limit_s)


@dataclass
class Host(Member):
    """A worker, and what it runs."""

    def jobs(self) -> set[str]:
        """The IDs of all jobs that it has or had."""
        return {path.parent.name for path in (self.directory / "jobs").glob("*/shim.json")}

    def finish(self, job_id: str) -> None:
        """Let the job end by itself."""
        (self.directory / "jobs" / job_id / "data" / "go").touch()

    def kill_all(self) -> None:
        """The worker and everything on it at once, as when a host loses its power."""
        send_signal(self.process.pid, signal.SIGKILL)
        for path in (self.directory / "jobs").glob("*/shim.json"):
            shim = json.loads(path.read_text())
            for key in ("shim_pid", "child_pid"):
                if pid := shim.get(key):
                    send_signal(int(pid), signal.SIGKILL)


class Fleet:
    """Started by `async with`; nothing of it is left after the block."""

    def __init__(
        self, directory: Path, *, broker_url: str, tls: Certificates | None = None
    ) -> None:
        """With `tls` services and doors speak HTTPS, and trust its authority alone."""
        self.directory = directory
        self.broker_url = broker_url
        self._tls = tls
        self._scheme = "http" if tls is None else "https"
        self._trusted = ssl.create_default_context(cafile=tls.ca if tls is not None else None)
        self.secret_key = "s" * 43
        self.runs = directory / "runs"
        """A file for each time a job's program was begun; its name starts with the call's ID."""
        self._family = Family()
        self._clients: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        self.runs.mkdir(parents=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()
        await self._family.take_down(grace_s=_GRACE_S)

    def runs_of(self, call_id: str) -> int:
        """How often a job of that call was begun, on whichever host."""
        return len(list(self.runs.glob(f"{call_id}.*")))

    async def start_service(
        self, name: str = "service", *, port: int | None = None, **environ: str
    ) -> Service:
        """A job service that answers; with `port`, in the place of an earlier one."""
        port = port or free_port()
        url = f"{self._scheme}://{HOST}:{port}"
        directory = self.directory / name
        own = {
            "API_HTTP_LISTENADDRESS": f"{HOST}:{port}",
            "API_SECURITY_ALLOWSELFREGISTRATION": "true",
            "STORE_DATASOURCE": str(directory / "offloader.db"),
            "JOBS_APITYPE": "celery",
        }
        if self._tls is not None:
            own |= {"API_HTTP_TLS_ENABLE": "true", "API_HTTP_TLS_CERTKEY": str(self._tls.key)}
            own |= {"API_HTTP_TLS_CERTFILE": str(self._tls.certificate)}
        process, log = await self._start(name, "serve", {**own, **environ})
        http = httpx.AsyncClient(
            base_url=url, timeout=_ANSWER_S, auth=AUTH, trust_env=False, verify=self._trusted
        )
        self._clients.append(http)
        service = Service(name, url, directory, process, log, http)
        await self._answers(service, "/version")
        await http.post("/jobs/init", json={"Runners": [RUNNER]})  # registers
        return service

    async def start_worker(
        self,
        name: str,
        *,
        slots: int = 1,
        script: str = SCRIPT,
        port: int | None = None,
        **environ: str,
    ) -> Host:
        """A worker whose door answers; with `port`, in the place of an earlier one."""
        port = port or free_port()
        url = f"{self._scheme}://{HOST}:{port}"
        directory = self.directory / name
        counted = f"mktemp {self.runs}/$CALL_ID.XXXXXX >/dev/null; {script}"
        command = json.dumps(["/bin/sh", "-c", counted])
        own = {
            "WORKER_NAME": name,
            "WORKER_LISTENADDRESS": f"{HOST}:{port}",
            "WORKER_URL": url,
            "WORKER_SLOTS": str(slots),
            "JOBS_PROCESS_JOBSDIR": str(directory / "jobs"),
            "JOBS_PROCESS_RECORDERCOMMAND": command,
            "JOBS_PROCESS_TRANSCRIBERCOMMAND": command,
        }
        if self._tls is not None:
            own |= {"WORKER_TLSCERTFILE": str(self._tls.certificate)}
            own |= {"WORKER_TLSKEYFILE": str(self._tls.key)}
        process, log = await self._start(name, "worker", {**own, **environ})
        host = Host(name, url, directory, process, log)
        await self._answers(host, "/healthz")
        return host

    async def _start(
        self, name: str, what: str, environ: Mapping[str, str]
    ) -> tuple[asyncio.subprocess.Process, Path]:
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        log = directory / "log"
        shared = {
            "PATH": os.environ["PATH"],
            "STATE_DIRECTORY": str(directory),
            "OFFLOADER_SECRET_KEY": self.secret_key,
            "JOBS_CELERY_BROKERURL": self.broker_url,
            "LOGGER_ENABLEFILE": "false",
            "LOGGER_CONSOLEJSON": "true",
        }
        if self._tls is not None:
            shared["JOBS_CACERTFILE"] = str(self._tls.ca)
        process = await self._family.start(
            [sys.executable, "-m", "offloader", what], environment={**shared, **environ}, log=log
        )
        return process, log

    async def _answers(self, member: Member, route: str) -> None:
        async with httpx.AsyncClient(
            base_url=member.url, timeout=5, trust_env=False, verify=self._trusted
        ) as http:

            async def look() -> bool:
                ended = member.process.returncode
                tail = member.log.read_text(errors="replace")[-2000:]
                assert ended is None, f"{member.name} ended with {ended}: {tail}"
                with contextlib.suppress(httpx.TransportError):
                    return (await http.get(route)).status_code == httpx.codes.OK
                return False

            await until(look, f"an answer of {member.name}", limit_s=_LIMIT_S)


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
