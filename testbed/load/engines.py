"""What runs the jobs: `simulated`, in the service itself; `kubernetes`, on the double of its API; `celery`,
with simulated jobs on two workers and a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from testbed.brokers import RedisServer, free_port
from testbed.ports import HOST

ENGINES: Final = ("simulated", "kubernetes", "celery")
_READY_WITHIN_S: Final = 60.0
_WORKERS: Final = 2
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Engine:
    """How a service uses it."""

    environ: Mapping[str, str]
    arguments: Sequence[str] = ()
    """Of `testbed.load.service`."""
    pids: Mapping[str, int] = field(default_factory=dict)
    """Processes that it needs, by what they are."""


@asynccontextmanager
async def running_engine(name: str, directory: Path, *, places: int) -> AsyncIterator[Engine]:
    """One of `ENGINES` with room for `places` calls and more, until the block ends.

    Raises:
        BrokerMissing: there is no Redis on this machine.
    """
    async with AsyncExitStack() as stack:
        if name == "kubernetes":
            environ, pid = await stack.enter_async_context(
                _child("testbed.load.cluster", [str(directory)], {})
            )
            yield Engine(environ, pids={"double": pid})
        elif name == "celery":
            yield await _celery(stack, directory, places=places)
        else:
            yield Engine({"JOBS_APITYPE": "process"}, ["--simulated"])


async def _celery(stack: AsyncExitStack, directory: Path, *, places: int) -> Engine:
    redis = RedisServer(directory / "redis")
    stack.callback(redis.stop)
    await asyncio.to_thread(redis.start)
    shared = {
        "JOBS_APITYPE": "celery",
        "JOBS_CELERY_BROKERURL": redis.url,
        "OFFLOADER_SECRET_KEY": secrets.token_urlsafe(32),
    }
    pids = {}
    for number in range(_WORKERS):
        port, name = free_port(), f"worker-{number}"
        own = {
            "WORKER_NAME": name,
            "WORKER_LISTENADDRESS": f"{HOST}:{port}",
            "WORKER_URL": f"http://{HOST}:{port}",
            "WORKER_SLOTS": str(places),
            "STATE_DIRECTORY": str(directory / name),
            "LOGGER_ENABLECONSOLE": "false",
            "LOGGER_FILELOCATION": str(directory / f"{name}.log"),
        }
        _, pids[name] = await stack.enter_async_context(
            _child("testbed.load.worker", [], shared | own)
        )
    return Engine(shared, pids=pids)


@asynccontextmanager
async def _child(
    module: str, arguments: Sequence[str], environ: Mapping[str, str]
) -> AsyncIterator[tuple[dict[str, Any], int]]:
    """A process that says a JSON line when it is ready, and ends with its standard input."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{module} ended with code {await process.wait()}")
        yield json.loads(line), process.pid
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
