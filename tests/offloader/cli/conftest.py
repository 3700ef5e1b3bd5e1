"""The service on a stub backend behind its local socket, and the commands that are run against it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import structlog

from offloader.cli.main import main
from offloader.http_server import HttpServer
from offloader.listen import bind_local


class StartLike(Protocol):
    def __call__(self, **environ: str) -> Awaitable[Any]: ...


@dataclass
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Served:
    """`running` is the service; `run` a command against it."""

    running: Any
    socket: Path
    run: Callable[..., Awaitable[Result]]


@pytest.fixture
async def serve(
    start: StartLike, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Start a service behind a local socket; it ends with the test. Its log goes nowhere."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    servers: list[tuple[HttpServer, asyncio.Task[None]]] = []

    async def serve_one(**environ: str) -> Served:
        running = await start(**environ)
        path = tmp_path / "service.sock"
        server = HttpServer(running.offloader.local_app)
        task = asyncio.create_task(server.serve(sockets=[bind_local(path)]))
        servers.append((server, task))

        async def run(*arguments: str) -> Result:
            capfdbinary.readouterr()
            config = ("--config", str(tmp_path / "none.toml"), "--socket", str(path))
            code = await asyncio.to_thread(main, [*arguments, *config])
            out, err = capfdbinary.readouterr()
            return Result(code, out.decode(), err.decode())

        return Served(running, path, run)

    yield serve_one
    for server, task in servers:
        server.should_exit = True
        await task
    structlog.reset_defaults()


@pytest.fixture
async def served(serve: Callable[..., Awaitable[Served]]) -> Served:
    """One service that takes two calls."""
    return await serve()
