"""Runs: a service as a process of its own, and what clients get from it while many of its jobs live."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.load.clients import Answer, Listeners, ask, post_within, register
from testbed.load.database import RunningDatabase, postgresql_server
from testbed.load.figures import cpu_s, peak_rss_bytes, percentiles, rss_bytes
from testbed.ports import HOST

_ROOT: Final = Path(__file__).resolve().parents[2]
_SHOWN: Final = 2000
_READY_WITHIN_S: Final = 120.0
_PORTS: Final = (20_000, 32_000)


@dataclass
class Service:
    """The service's process, spoken to."""

    port: int
    process: asyncio.subprocess.Process
    errors: Path
    """What it writes to standard error."""

    @property
    def pid(self) -> int:
        return self.process.pid

    async def figures(self) -> dict[str, Any]:
        """What it counted since the last time: `statements`, `commits`, `rounds_s`, `lags_s`."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"figures\n")
        return await self.line()

    async def line(self) -> dict[str, Any]:
        """Its next line. Raises RuntimeError: it ended."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            code = await self.process.wait()
            said = (await asyncio.to_thread(self.errors.read_text))[-_SHOWN:]
            raise RuntimeError(f"the service ended with code {code}:\n{said}")
        document: dict[str, Any] = json.loads(line)
        return document


@asynccontextmanager
async def running_service(
    directory: Path,
    *,
    arguments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Service]:
    """`testbed.load.service` on a free port, its log in `service.log`, until the block ends."""
    port = random.randrange(*_PORTS)
    here = {
        "PATH": os.environ["PATH"],
        "API_HTTP_LISTENADDRESS": f"{HOST}:{port}",
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "API_ADMINSOCKET": "",
        "STATE_DIRECTORY": str(directory),
        "STORE_DATASOURCE": str(directory / "store.db"),
        "LOGGER_ENABLECONSOLE": "false",
        "LOGGER_FILELOCATION": str(directory / "service.log"),
        "LOGGER_FILELEVEL": "INFO",
    }
    path = directory / "service.err"
    with open(path, "wb") as errors:  # noqa: ASYNC230 - once, at the start
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "testbed.load.service", *arguments),
            cwd=_ROOT,
            env=here | dict(environ or {}),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=1 << 24,
        )
    service = Service(port, process, path)
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            await service.line()
        yield service
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def data_source(kind: str) -> AsyncIterator[RunningDatabase | None]:
    """`sqlite`: None; `postgresql`: a server of this run."""
    async with AsyncExitStack() as stack:
        if kind == "postgresql":
            yield await stack.enter_async_context(postgresql_server())
        else:
            yield None


async def many_jobs(
    directory: Path,
    *,
    store: str,
    live: int,
    seconds: float,
    rate: float,
    listeners: int,
    ended: int = 0,
) -> dict[str, Any]:
    """`live` simulated jobs run, `ended` have; then `rate` jobs a second come for `seconds`, `listeners`
    streams open."""
    async with data_source(store) as database:
        environ = {"JOBS_APITYPE": "process", "JOBS_MAXCONCURRENTJOBS": "1000000"}
        if database is not None:
            environ["STORE_DATASOURCE"] = database.url
        arguments = ["--simulated", "--live", str(live), "--ended", str(ended)]
        async with running_service(directory, arguments=arguments, environ=environ) as service:
            return {
                "store": store,
                "live": live,
                "ended": ended,
                **await _measured(service, database, seconds, rate, listeners),
            }


async def _measured(
    service: Service,
    database: RunningDatabase | None,
    seconds: float,
    rate: float,
    listeners: int,
) -> dict[str, Any]:
    await register(service.port)
    quiet = await sample(service, database, asyncio.sleep(seconds))
    streams = Listeners(service.port)
    opened = await streams.open(listeners)
    try:
        calls = range(1, round(rate * seconds) + 1)
        answers: list[Answer] = []

        async def post() -> None:
            answers.extend(await post_within(service.port, calls, within_s=seconds))

        busy = await sample(service, database, post())
        scrape = await ask(service.port, "GET", "/version")
        await asyncio.sleep(1)
    finally:
        await streams.close()
    return {
        "streams": opened,
        "quiet": quiet,
        "busy": busy | {"answers": told(answers), "version_s": round(scrape.seconds, 4)},
        "events": dict(streams.events),
        "broken_streams": streams.broken,
        "rss_mib": rss_bytes(service.pid) >> 20,
        "peak_rss_mib": peak_rss_bytes(service.pid) >> 20,
    }


async def sample(service: Service, database: RunningDatabase | None, work: Any) -> dict[str, Any]:
    """What the service did while `work` was awaited."""
    await service.figures()
    began_s, cpu_before_s = time.perf_counter(), cpu_s(service.pid)
    database_before_s = cpu_s(database.pid, family=True) if database else 0.0
    await work
    figures = await service.figures()
    took_s = time.perf_counter() - began_s
    document = {
        "seconds": round(took_s, 2),
        "cpu": round((cpu_s(service.pid) - cpu_before_s) / took_s, 3),
        "statements_per_s": round(figures["statements"] / took_s, 1),
        "commits_per_s": round(figures["commits"] / took_s, 1),
        "rounds_s": percentiles(figures["rounds_s"]),
        "loop_late_s": percentiles(figures["lags_s"]),
    }
    if database is not None:
        used_s = cpu_s(database.pid, family=True) - database_before_s
        document["database_cpu"] = round(used_s / took_s, 3)
    return document


def told(answers: Sequence[Answer]) -> dict[str, Any]:
    """What clients got: latencies, statuses, texts of refusals."""
    return {
        "seconds": percentiles(answer.seconds for answer in answers),
        "status": dict(Counter(str(answer.status) for answer in answers)),
        "refusals": dict(Counter(answer.error for answer in answers if answer.error)),
    }
