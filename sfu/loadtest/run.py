"""The course of a run: start the processes, let everybody in, measure, collect, take everything down."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.processes import Usage, listener, usage
from sfu.loadtest.recordings import Recordings, RecordingsError
from sfu.loadtest.result import Measured, make_result
from sfu.loadtest.signaling import SignalingError, register

_READY_TIMEOUT_S: Final = 30.0
_REPORT_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 30.0
_TERMINATE_TIMEOUT_S: Final = 3.0
_POLL_S: Final = 0.1
_LEAD_NS: Final = 300_000_000
"""Between an order to all processes and the moment it is for."""
_DRAIN_S: Final = 0.3
_REPAIR_S: Final = 1.2
"""Video that was sent in the window may be repaired this long: ten NACKs."""
_LINE_LIMIT_BYTES: Final = 1 << 26

Say = Callable[[str], None]


class RunError(Exception):
    """The run could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How, not what."""

    processes: int = 1
    cpus: tuple[int, ...] = ()
    """Process i is pinned to cpus[i % len]; empty: wherever."""
    server_pid: int | None = None
    """Whose CPU time is taken; None: whoever listens on the URL's port, when that is on this host."""
    preset: str | None = None
    recordings: int = 0
    """So many calls are really recorded."""


async def run_load(plan: LoadPlan, options: RunOptions, say: Say) -> dict[str, Any]:
    """Run once. Whatever ends it, no process is left.

    Returns:
        The result, see `sfu.loadtest.result`.

    Raises:
        RunError: the SFU cannot be used, or a process of ours has failed.
    """
    try:
        version = await register(plan.url, plan.client_id, plan.auth_key)
    except SignalingError as error:
        raise RunError(str(error)) from error
    server_pid = options.server_pid or find_server(plan.url)
    before = _usage(server_pid)
    recordings = Recordings(options.recordings) if options.recordings else None
    run: _Run | None = None
    try:
        if recordings is not None:
            say(f"starting what {options.recordings} recordings need")
            plan = await recordings.open(plan)
        run = _Run(plan, options, say, server_pid, recordings)
        measured = await run.run()
    except RecordingsError as error:
        raise RunError(str(error)) from error
    finally:
        if run is not None:
            await run.take_down()
        if recordings is not None:
            await recordings.take_down()
    measured.server_version = version
    measured.server_before = before
    return make_result(plan, measured, preset=options.preset)


def find_server(url: str) -> int | None:
    """The process behind a URL, when it runs on this host and may be looked at."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        address = socket.gethostbyname(parts.hostname or "")
    except OSError:
        return None
    if not ipaddress.ip_address(address).is_loopback:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                return None  # not an address of this host
    return listener(port)


@dataclass(slots=True)
class _Process:
    """A worker and what it said last."""

    process: asyncio.subprocess.Process
    ready: bool = False
    progress: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] | None = None
    failure: str = ""
    reader: asyncio.Task[None] | None = None


class _Run:
    def __init__(
        self,
        plan: LoadPlan,
        options: RunOptions,
        say: Say,
        server_pid: int | None,
        recordings: Recordings | None,
    ) -> None:
        self._recordings = recordings
        self._plan = plan
        self._options = options
        self._say = say
        self._server_pid = server_pid
        self._workers: list[_Process] = []

    async def run(self) -> Measured:
        plan = self._plan
        count = max(1, min(self._options.processes, plan.participants))
        for number in range(count):
            self._workers.append(await self._start(number, count))
        await self._wait_for("start", _READY_TIMEOUT_S, lambda worker: worker.ready)
        await self._let_in()
        settled = await self._wait_until_settled()
        if not self._joined():
            await self._collect()
            raise RunError(f"nobody could join: {self._first_failure()}")
        if self._recordings is not None:
            started = await self._recordings.start()
            self._say(f"{len(started)} calls are being recorded")
        after_joins = _usage(self._server_pid)
        start_ns = time.monotonic_ns() + _LEAD_NS
        end_ns = start_ns + round(plan.duration_s * 1e9)
        self._command({"command": "measure", "start_ns": start_ns, "end_ns": end_ns})
        self._say(f"measuring for {plan.duration_s:g} s")
        await self._sleep_until(start_ns)
        began = self._sample()
        await self._sleep_until(end_ns)
        ended = self._sample()
        await asyncio.sleep(_REPAIR_S if plan.screen_sharing else _DRAIN_S)
        after = _usage(self._server_pid)
        recorded = None
        if self._recordings is not None:
            self._say("waiting for the recordings")
            recorded = await self._recordings.stop()
        drops = [_usage(worker.process.pid) for worker in self._workers]
        await self._collect()
        return Measured(
            reports=[worker.report for worker in self._workers if worker.report is not None],
            settled=settled,
            wall_s=ended.at_s - began.at_s,
            server_pid=self._server_pid,
            server_after_joins=after_joins,
            server_window=(began.server, ended.server),
            server_after=after,
            tool_cpu_s=[
                later.cpu_s - earlier.cpu_s
                for earlier, later in zip(began.tool, ended.tool, strict=True)
                if earlier is not None and later is not None
            ],
            tool_udp_drops=sum(one.udp_drops for one in drops if one is not None),
            recordings=recorded,
        )

    async def take_down(self) -> None:
        """Nothing of ours is left then."""
        for worker in self._workers:
            if worker.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    worker.process.terminate()
        for worker in self._workers:
            try:
                async with asyncio.timeout(_TERMINATE_TIMEOUT_S):
                    await worker.process.wait()
            except TimeoutError:
                worker.process.kill()
                await worker.process.wait()
            if worker.reader is not None:
                await worker.reader

    async def _start(self, number: int, count: int) -> _Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sfu.loadtest.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT_BYTES,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        worker = _Process(process)
        worker.reader = asyncio.create_task(self._read(worker), name="worker-reader")
        cpus = self._options.cpus
        task = {
            "plan": self._plan.to_json(),
            "process": number,
            "processes": count,
            "cpus": [cpus[number % len(cpus)]] if cpus else [],
        }
        _write(worker, task)
        return worker

    async def _read(self, worker: _Process) -> None:
        assert worker.process.stdout is not None
        async for line in worker.process.stdout:
            event = json.loads(line)
            match event["event"]:
                case "ready":
                    worker.ready = True
                case "progress":
                    worker.progress = event
                case "report":
                    worker.report = event
                case "failed":
                    worker.failure = event["reason"]

    async def _let_in(self) -> None:
        plan = self._plan
        self._say(
            f"{plan.participants} participants join {plan.calls} calls at {plan.join_rate:g}/s "
            f"from {len(self._workers)} processes"
        )
        self._command({"command": "join", "start_ns": time.monotonic_ns() + _LEAD_NS})
        await asyncio.sleep(_LEAD_NS / 1e9 + (plan.participants - 1) / plan.join_rate)

    async def _wait_until_settled(self) -> bool:
        deadline_s = time.monotonic() + self._plan.settle_timeout_s
        while time.monotonic() < deadline_s:
            self._check()
            if all(worker.progress.get("settled") for worker in self._workers):
                break
            await asyncio.sleep(_POLL_S)
        progress = [worker.progress for worker in self._workers]
        failed = sum(one.get("failed", 0) for one in progress)
        settled = all(one.get("settled") for one in progress)
        state = "all tracks are there" if settled else "some tracks have not arrived"
        self._say(f"{self._joined()} joined, {failed} failed; {state}")
        return settled

    def _joined(self) -> int:
        return sum(worker.progress.get("joined", 0) for worker in self._workers)

    def _first_failure(self) -> str:
        failures: Counter[str] = Counter()
        for worker in self._workers:
            failures.update(worker.report["failures"] if worker.report else {})
        return ", ".join(f"{count} × {why}" for why, count in failures.most_common(1)) or "too slow"

    async def _collect(self) -> None:
        self._command({"command": "finish"})
        await self._wait_for("report", _REPORT_TIMEOUT_S, lambda worker: worker.report is not None)
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                await asyncio.gather(*(worker.process.wait() for worker in self._workers))
        except TimeoutError:
            self._say("a process of the load test did not end by itself")

    async def _wait_for(
        self, what: str, timeout_s: float, reached: Callable[[_Process], bool]
    ) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not all(reached(worker) for worker in self._workers):
            self._check()
            if time.monotonic() > deadline_s:
                raise RunError(f"no {what} of every process within {timeout_s:g} s")
            await asyncio.sleep(_POLL_S)

    def _check(self) -> None:
        for worker in self._workers:
            if worker.failure:
                raise RunError(worker.failure)
            code = worker.process.returncode
            if code is not None and worker.report is None:
                raise RunError(f"a process of the load test ended with exit code {code}, see above")

    async def _sleep_until(self, at_ns: int) -> None:
        while (left_s := (at_ns - time.monotonic_ns()) / 1e9) > 0:
            self._check()
            await asyncio.sleep(min(left_s, 1.0))

    def _sample(self) -> _Sample:
        return _Sample(
            at_s=time.monotonic(),
            server=_usage(self._server_pid),
            tool=[_usage(worker.process.pid) for worker in self._workers],
        )

    def _command(self, command: dict[str, Any]) -> None:
        for worker in self._workers:
            _write(worker, command)


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    server: Usage | None
    tool: Sequence[Usage | None]


def _write(worker: _Process, value: dict[str, Any]) -> None:
    assert worker.process.stdin is not None
    worker.process.stdin.write(json.dumps(value).encode() + b"\n")


def _usage(pid: int | None) -> Usage | None:
    if pid is None:
        return None
    try:
        return usage(pid)
    except ProcessLookupError:
        return None
