"""`python -m testbed.load.service`: the job service as a process of its own, with figures on request.

Settings come from the environment, as the service's own do. Each line on standard input is answered by one
JSON line on standard output: `figures` by what happened since the last time, anything else ends the service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine

from clientauth.hashing import hash_key
from foundation.clock import SystemClock
from offloader.app import Offloader, running_offloader
from offloader.http_server import HttpServer
from offloader.listen import bind
from offloader.logging_setup import set_up_logging
from offloader.models import Job, JobSpec, JobState, JobType, StopReason
from offloader.secrets import masked
from offloader.settings import Settings, default_state_dir, load_settings
from offloader.store.schema import job_to_row, jobs
from offloader.store.stores import open_stores
from testbed.load.clients import CLIENT_ID, KEY, job_body
from testbed.load.simulated import SimulatedBackend

_TICK_S: Final = 0.02
_ROWS_AT_ONCE: Final = 500


@dataclass
class Counters:
    """What happened since `taken`."""

    statements: int = 0
    commits: int = 0
    rounds_s: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    """How late the event loop woke a timer of 20 ms."""

    def taken(self) -> dict[str, Any]:
        """The figures; counting begins anew."""
        document = {
            "statements": self.statements,
            "commits": self.commits,
            "rounds_s": self.rounds_s,
            "lags_s": self.lags_s,
        }
        self.statements = self.commits = 0
        self.rounds_s, self.lags_s = [], []
        return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--simulated", action="store_true", help="jobs are simulated in this process"
    )
    parser.add_argument("--live", type=int, default=0, help="jobs that run already")
    parser.add_argument("--ended", type=int, default=0, help="jobs that ended today")
    options = parser.parse_args()
    settings = load_settings(Path("/nonexistent"), os.environ)
    set_up_logging(settings.logger)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, options))


async def _serve(settings: Settings, options: argparse.Namespace) -> None:
    if options.live or options.ended:
        await _prefill(settings, options.live, options.ended)
    backend = SimulatedBackend() if options.simulated else None
    counters = Counters()
    sockets = bind(settings.api.listen_address)
    async with running_offloader(settings, environ=os.environ, backend=backend) as offloader:
        server = HttpServer(offloader.app, new_loop=uvloop.new_event_loop)
        async with _counting(counters, offloader), asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=sockets))
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            _answer({"listening": True})
            await _talk(counters)
            offloader.events.close()
            server.should_exit = True


async def _prefill(settings: Settings, live: int, ended: int) -> None:
    """Jobs that an earlier process admitted, and their client. A recording and its transcription each."""
    now = datetime.now(UTC)
    async with open_stores(
        settings.data_source,
        environ=os.environ,
        state_dir=default_state_dir(os.environ),
        clock=SystemClock(),
    ) as stores:
        found = [_running(number, now) for number in range(live + ended)]
        rows = [
            job_to_row(job if number < live else _ended(job, now))
            for number, job in enumerate(found)
        ]
        await stores.clients.put(CLIENT_ID, await asyncio.to_thread(hash_key, KEY))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            async with stores.database.write() as connection:
                await connection.execute(insert(jobs), rows[start : start + _ROWS_AT_ONCE])


def _running(number: int, now: datetime) -> Job:
    body = job_body(-(number // 2) - 1, "transcribing" if number % 2 else "recording")
    spec = JobSpec(
        JobType(body["type"]), body["runner"], body["max_duration_sec"], masked(body["input_data"])
    )
    job_id = secrets.token_hex(6)
    workload = SimulatedBackend.workload(job_id)
    return Job(job_id, CLIENT_ID, spec, now, JobState.RUNNING, workload=workload)


def _ended(job: Job, now: datetime) -> Job:
    return job.moved_to(
        JobState.FINISHED,
        stop_reason=StopReason.COMPLETED,
        exit_code=0,
        stopped_at=now,
        figures=dict.fromkeys(("cpu_s", "rss_bytes", "written_bytes", "packets_lost"), 1.5),
    )


@asynccontextmanager
async def _counting(counters: Counters, offloader: Offloader) -> AsyncIterator[None]:
    """Count statements, commits, rounds of the supervisor and the lateness of the event loop."""

    def statement(*_: object) -> None:
        counters.statements += 1

    def commit(*_: object) -> None:
        counters.commits += 1

    supervisor: Any = offloader.supervisor
    check = supervisor.check

    async def timed_check() -> None:
        began_s = time.perf_counter()
        try:
            await check()
        finally:
            counters.rounds_s.append(round(time.perf_counter() - began_s, 4))

    async def tick() -> None:
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(_TICK_S)
            counters.lags_s.append(round(time.perf_counter() - began_s - _TICK_S, 4))

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    supervisor.check = timed_check
    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        event.remove(Engine, "before_cursor_execute", statement)
        event.remove(Engine, "commit", commit)


async def _talk(counters: Counters) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while (await reader.readline()).strip() == b"figures":
        _answer(counters.taken())


def _answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
