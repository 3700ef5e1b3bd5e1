"""What must not be reached: a site that sends visitors on, what lies behind it, files that run code."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testbed.ports import HOST

LINK_LOCAL: Final = "169.254.77.7"
"""As a metadata service has one; not the real one's, which this machine may need."""
BAIT: Final = "bait-of-the-inner-service-41f7"
"""What the answers of both say: it may be read by nobody."""


@dataclass
class Trap:
    """A server that counts who comes."""

    host: str
    port: int
    requests: list[bytes] = field(default_factory=list)
    """First lines of what was asked."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def is_link_local(self) -> bool:
        return self.host == LINK_LOCAL


@dataclass(frozen=True)
class Traps:
    """All of them."""

    site: Trap
    """Sends everybody on to `inner`, with `BAIT` in the body, once they are `released`."""
    released: asyncio.Event
    """Until then a job that came there holds its place in the service."""
    inner: Trap
    """Nobody may come here."""
    marker: Path
    """Made by `payload`, if any of it ever runs."""
    payload: Path
    """A directory of start-up files for interpreters and shells."""


@asynccontextmanager
async def traps_set(directory: Path) -> AsyncIterator[Traps]:
    """While the block runs. `inner` is at a link-local address where this process may add one."""
    marker, payload = directory / "marker", directory / "payload"
    await asyncio.to_thread(write_payload, payload, marker)
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(_link_local())
        released, at_once = asyncio.Event(), asyncio.Event()
        at_once.set()
        inner = await stack.enter_async_context(_trap(host, "", at_once))
        away = f"{inner.url}/latest/meta-data/"
        site = await stack.enter_async_context(_trap(HOST, away, released))
        yield Traps(site, released, inner, marker, payload)


def write_payload(payload: Path, marker: Path) -> None:
    """Files by which a variable makes a program run code that it was not to run: each makes `marker`."""
    payload.mkdir(parents=True)
    python = f"open({str(marker)!r}, 'a').close()\n"
    for name in ("sitecustomize.py", "usercustomize.py", "startup.py", "antigravity.py"):
        (payload / name).write_text(python)
    shell = payload / "shell.sh"
    shell.write_text(f"#!/bin/sh\n: >> {marker}\n")
    shell.chmod(0o755)


def steering_variables(traps: Traps) -> dict[str, str]:
    """Keys of `input_data` that would run `payload`, or send what a job says through `inner`."""
    payload, shell = str(traps.payload), str(traps.payload / "shell.sh")
    return {
        "PYTHONPATH": payload,
        "PythonStartup": f"{payload}/startup.py",
        "PYTHONWARNINGS": "all:0:antigravity.x:0:0",
        "BROWSER": f"{shell} #%s",
        "PYTHONHOME": payload,
        "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": payload,
        "PYTHONBREAKPOINT": "antigravity.x",
        "ld_preload": f"{payload}/preload.so",
        "LD_LIBRARY_PATH": payload,
        "LD_AUDIT": f"{payload}/audit.so",
        "GCONV_PATH": payload,
        "BASH_ENV": shell,
        "ENV": shell,
        "PATH": payload,
        "HOME": payload,
        "TMPDIR": payload,
        "PERL5OPT": f"-I{payload} -Msitecustomize",
        "NODE_OPTIONS": f"--require {payload}/startup.js",
        "HTTP_PROXY": traps.inner.url,
        "https_proxy": traps.inner.url,
        "ALL_PROXY": traps.inner.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": traps.inner.url,
        "COPIES_URL": f"s3+{traps.inner.url}/bucket",
        "AWS_ENDPOINT_URL": traps.inner.url,
        "TRANSCRIBE_TASKS_URL": traps.inner.url,
        "SITE_URL_ALLOWED": "true",
        "ALLOWED_SPEECH_URLS": traps.inner.url,
        "JOB_INPUT_FILE": "/etc/passwd",
        "DATA_DIR": f"{payload}/data",
        "MODELS_DIR": payload,
        "SSL_CERT_FILE": f"{payload}/ca.pem",
        "SSLKEYLOGFILE": str(traps.marker),
        "A=B\nLD_PRELOAD": f"{payload}/preload.so",
    }


@asynccontextmanager
async def _link_local() -> AsyncIterator[str]:
    command = ["ip", "address", "add", f"{LINK_LOCAL}/32", "dev", "lo"]
    try:
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    except FileNotFoundError:
        yield HOST
        return
    if done.returncode != 0:
        yield HOST
        return
    try:
        yield LINK_LOCAL
    finally:
        command[2] = "delete"
        await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)


@asynccontextmanager
async def _trap(host: str, sends_to: str, answers: asyncio.Event) -> AsyncIterator[Trap]:
    trap = Trap(host, 0)
    status = f"302 Found\r\nLocation: {sends_to}" if sends_to else "200 OK"
    answer = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(BAIT)}\r\n"
        f"Connection: close\r\n\r\n{BAIT}"
    ).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        trap.requests.append(b"connected")
        try:
            async with asyncio.timeout(60):
                trap.requests[-1] = await reader.readline()
                while (await reader.readline()).strip():
                    pass
                await answers.wait()
                writer.write(answer)
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, 0)
    trap.port = server.sockets[0].getsockname()[1]
    async with server:
        yield trap
