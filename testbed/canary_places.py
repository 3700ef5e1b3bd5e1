"""Where canaries are looked for: files, processes, containers, API answers, a broker's traffic."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import docker
import httpx

from testbed.canary import CanarySearch
from testbed.ports import HOST

_ANSWER_S: Final = 20.0
_CHUNK_BYTES: Final = 1 << 16
_BUNDLE_S: Final = 90.0


def look_at_files(
    search: CanarySearch, place: str, *roots: Path, without: Collection[Path]
) -> None:
    """Every regular file below `roots`, names included, but for what lies below one of `without`."""
    for root in roots:
        for path in [root, *sorted(root.rglob("*"))]:
            if any(path.is_relative_to(other) for other in without):
                continue
            search.look(f"{place}: {path}", str(path.relative_to(root)))
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    search.look(f"{place}: {path}", path.read_bytes())


def look_at_processes(search: CanarySearch) -> None:
    """Command line and environment of every process of this machine, those in containers included."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            for part in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    content = Path(f"/proc/{name}/{part}").read_bytes()
                    search.look(f"process list: {part} of {name}", content)


def look_at_containers(search: CanarySearch, *, instance: str) -> None:
    """What `docker inspect` and `docker logs` tell of an offloader's containers and volumes."""
    client = docker.APIClient(version="auto", **docker.utils.kwargs_from_env())
    filters = {"label": [f"calls-offloader.instance={instance}"]}
    try:
        for entry in client.containers(all=True, filters=filters):
            with contextlib.suppress(docker.errors.NotFound):
                container = entry["Id"]
                inspected = json.dumps(client.inspect_container(container))
                search.look(f"docker inspect: {container[:12]}", inspected)
                search.look(f"docker logs: {container[:12]}", client.logs(container))
        volumes = client.volumes(filters=filters)["Volumes"] or []
        search.look("docker inspect: volumes", json.dumps(volumes))
    finally:
        client.close()


def job_in_container(name: str) -> int:
    """The job's own process, by its number on this host: `jobs.container` forks it. Raises AssertionError."""
    client = docker.APIClient(version="auto", **docker.utils.kwargs_from_env())
    try:
        rows = client.top(name, "-eo pid,ppid,args")["Processes"]
    finally:
        client.close()
    forks = {
        pid: parent for pid, parent, what in rows if what.startswith("python -m jobs.container")
    }
    found = [int(pid) for pid, parent in forks.items() if parent in forks]
    assert len(found) == 1, f"{name} runs {rows}"
    return found[0]


async def look_at_answers(search: CanarySearch, who: str, http: httpx.AsyncClient) -> None:
    """What every route answers that `http` may read, but for events and for the content of results."""
    document = await _answer(search, who, http, "/openapi.json")
    plain = [p for p, operations in document["paths"].items() if "get" in operations]
    for path in sorted({*plain, "/", "/page/session"}):
        if "{" not in path and path not in ("/openapi.json", "/events"):
            await _answer(search, who, http, path)
    jobs = await _answer(search, who, http, "/jobs?limit=200")
    for job in jobs["jobs"]:
        for route in ("", "?details=1", "/logs", "/artifacts"):
            await _answer(search, who, http, f"/jobs/{job['id']}{route}")


async def look_at_metrics(search: CanarySearch, *urls: str) -> None:
    """Of servers beside the job service; a refusal is an answer as well."""
    async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False) as http:
        for url in urls:
            answer = await http.get(f"{url}/metrics")
            search.look(f"metrics: {url}", answer.content)


async def look_at_support_bundle(
    search: CanarySearch, path: Path, *, socket_path: Path, environment: Mapping[str, str]
) -> None:
    """Make one at `path`, as an admin does on the host; raises AssertionError where it cannot be made."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "offloader", "support-bundle", "--yes"),
        *("--socket", str(socket_path), "--output", str(path)),
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_BUNDLE_S):
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode(errors="replace")[-2000:]
    search.look("support bundle: printed", printed)
    search.look("support bundle", await asyncio.to_thread(path.read_bytes))


@asynccontextmanager
async def reading_events(search: CanarySearch, http: httpx.AsyncClient) -> AsyncIterator[None]:
    """All that `GET /events` tells while the block runs."""
    heard: list[bytes] = []
    listening = asyncio.Event()

    async def read() -> None:
        async with http.stream("GET", "/events", timeout=None) as answer:
            answer.raise_for_status()
            listening.set()
            async for chunk in answer.aiter_raw():
                heard.append(chunk)  # noqa: PERF401  # what came before a cancellation counts, too

    async with _beside(read(), listening):
        yield
    search.look("API answers: events", b"".join(heard))


@asynccontextmanager
async def reading_redis(search: CanarySearch, port: int) -> AsyncIterator[None]:
    """Every command that a Redis gets while the block runs, and in the end all that it has kept."""
    heard: list[bytes] = []
    listening = asyncio.Event()

    async def read() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(b"MONITOR\r\n")
            async with asyncio.timeout(_ANSWER_S):
                assert await reader.readline() == b"+OK\r\n"
            listening.set()
            while chunk := await reader.read(_CHUNK_BYTES):
                heard.append(chunk)
        finally:
            writer.close()

    async with _beside(read(), listening):
        yield
    search.look("broker: commands", b"".join(heard))


@asynccontextmanager
async def _beside(reading: Any, listening: asyncio.Event) -> AsyncIterator[None]:
    task = asyncio.create_task(reading, name="canary-reader")
    waiting = asyncio.create_task(listening.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield
    finally:
        for each in (task, waiting):
            each.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


async def _answer(search: CanarySearch, who: str, http: httpx.AsyncClient, path: str) -> Any:
    answer = await http.get(path, timeout=_ANSWER_S)
    kind = "metrics" if path == "/metrics" else "API answers"
    search.look(f"{kind}: GET {path} as {who}", answer.content)
    search.look(f"{kind}: headers of GET {path} as {who}", str(answer.headers.raw))
    json_ = "json" in answer.headers.get("content-type", "")
    return answer.json() if json_ and answer.is_success else {"jobs": []}
