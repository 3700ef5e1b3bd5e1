"""A PostgreSQL server of a run: durable as an installed one is, on a socket in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STARTED_WITHIN_S: Final = 30.0
_STOPPED_WITHIN_S: Final = 20.0
_USER: Final = "postgres"
_AS_NOBODY: Final = (
    ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups") if os.geteuid() == 0 else ()
)
"""It refuses to be root."""


class DatabaseMissing(Exception):
    """PostgreSQL's programs are not on this machine, or refuse to work; the message says which."""


@dataclass(frozen=True, slots=True)
class RunningDatabase:
    """What `postgresql_server` gives out."""

    url: str
    pid: int
    """Of the postmaster, whose children do the work."""


def programs() -> Path | None:
    """Where `initdb` and `postgres` lie: on PATH, or below /usr/lib/postgresql, the newest."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    newest = max(found, key=lambda path: float(path.parts[-3]), default=None)
    if newest is not None:
        return newest.parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


@asynccontextmanager
async def postgresql_server() -> AsyncIterator[RunningDatabase]:
    """One with an empty database, while the block runs. Raises DatabaseMissing."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as name:  # nosec B108  # made by tempfile
        async with _server(Path(name)) as server:  # sockets' paths are short
            yield server


@asynccontextmanager
async def _server(directory: Path) -> AsyncIterator[RunningDatabase]:
    where = programs()
    if where is None:
        raise DatabaseMissing("initdb: neither on PATH nor below /usr/lib/postgresql")
    await asyncio.to_thread(_give, directory)
    data = directory / "data"
    options = ("-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D", str(data))
    await _done([*_AS_NOBODY, str(where / "initdb"), *options], directory)
    settings = ("-k", str(directory), "-c", "listen_addresses=", "-c", "max_connections=200")
    server = await asyncio.create_subprocess_exec(
        *_AS_NOBODY,
        str(where / "postgres"),
        *("-D", str(data), *settings),
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        ready = [str(where / "pg_isready"), "-q", "-h", str(directory)]
        async with asyncio.timeout(_STARTED_WITHIN_S):
            while not await _works(ready, directory):  # noqa: ASYNC110 - nothing tells when it is
                await asyncio.sleep(0.1)
        url = f"postgresql://{_USER}@/postgres?host={directory}"
        yield RunningDatabase(url, server.pid)
    finally:
        server.terminate()  # a "smart" shutdown waits for clients; there are none any more
        try:
            async with asyncio.timeout(_STOPPED_WITHIN_S):
                await server.wait()
        except TimeoutError:
            server.kill()
            await server.wait()


def _give(directory: Path) -> None:
    if _AS_NOBODY:
        shutil.chown(directory, "nobody", "nogroup")


async def _works(command: Sequence[str], directory: Path) -> bool:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait() == 0


async def _done(command: Sequence[str], directory: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    if process.returncode != 0:
        raise DatabaseMissing(f"{command[0]}: {complaint.decode(errors='replace').strip()}")
