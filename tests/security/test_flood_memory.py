"""Wrong logins, as many as anybody likes to send, leave the service's memory as it was."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from foundation.process_stats import read_process_stats

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

KEY, ADMIN = "k" * 32, ("admin", "a" * 32)
PER_S = 1000
SETTLING, WATCHED = 4 * PER_S, 4 * PER_S
"""Logins: the first fill whatever is bounded, during the others memory is to stay."""
MOST_GROWN_MIB = 48.0
"""Two hashes at once take 19 MiB each, and the allocator keeps them or not: 21 were seen. What was sent, if
it is kept, is 80 and more."""
LOUD = 2
"""Sources that send a part of it: with as many logins waiting as may."""
_TICK_S = 0.01
_MOST_OPEN = 512
"""More than the loud ones have waiting."""


@dataclass
class Flood:
    """Wrong logins, so many a second, whether those before are answered or not; fewer only where a slow
    machine keeps every connection waiting. Connections stay open."""

    port: int
    statuses: Counter[int] = field(default_factory=Counter)
    sent: int = 0
    _free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def send(self, count: int) -> None:
        """As many more."""
        began_s, first, last = time.monotonic(), self.sent, self.sent + count
        while self.sent < last:
            due = min(last, first + int((time.monotonic() - began_s) * PER_S)) - self.sent
            for _ in range(min(due, _MOST_OPEN - len(self._under_way))):
                self._begin()
            await asyncio.sleep(_TICK_S)

    async def answered(self) -> None:
        """Until nothing waits for an answer any more."""
        await asyncio.gather(*self._under_way)

    async def aclose(self) -> None:
        """What waits for an answer is given up."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for _, writer in self._free:
            writer.close()
        await asyncio.gather(
            *(writer.wait_closed() for _, writer in self._free), return_exceptions=True
        )

    def _begin(self) -> None:
        task = asyncio.create_task(self._ask(wrong_login(self.sent)))
        self.sent += 1
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask(self, request: bytes) -> None:
        if self._free:
            reader, writer = self._free.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
        except BaseException:
            writer.close()
            raise
        self.statuses[int(head.split()[1])] += 1
        self._free.append((reader, writer))


def wrong_login(number: int) -> bytes:
    """Of several kinds in turn; each with a name, key or token of its own, most from their own address."""
    name = f"{number:x}".ljust(8192, "n")  # what a header takes
    long = f"{number:x}".ljust(32_768, "n")
    new = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    network = f"2001:db8:{number >> 8:x}:{number & 255:x}::1"
    loud = f"192.0.2.{number // 10 % LOUD}"
    key = f"{number:032d}"
    basic = base64.b64encode(f"{name}:{key}".encode()).decode()
    if number % 50 == 0:
        return _request("/login", loud, body={"clientID": "plugin", "authKey": key})
    match number % 10:
        case 0 | 1 | 2:
            return _request("/login", loud, body={"clientID": long, "authKey": key})
        case 3 | 4:
            return _request("/login", new, body={"clientID": long, "authKey": key})
        case 5 | 6:
            return _request("/login", network, body={"clientID": long, "authKey": key})
        case 7 | 8:
            return _request("/jobs", new, authorization=f"Basic {basic}")
        case _:
            return _request("/jobs", network, authorization=f"Bearer {name}")


def _request(
    path: str, source: str, *, body: dict[str, str] | None = None, authorization: str = ""
) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"X-Forwarded-For: {source}"]
    lines += [f"Content-Length: {len(content)}"]
    lines += [f"Authorization: {authorization}"] if authorization else []
    return "\r\n".join([*lines, "", ""]).encode() + content


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[tuple[int, int]]:
    """Process ID and port of a service that knows one client and believes its sender's proxy."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    environ = {
        "PATH": os.environ["PATH"],
        "API_HTTP_LISTENADDRESS": f"127.0.0.1:{port}",
        "API_HTTP_TRUSTEDPROXIES": "127.0.0.1",
        "API_SECURITY_ENABLEADMIN": "true",
        "API_SECURITY_ADMINSECRETKEY": ADMIN[1],
        "STORE_DATASOURCE": f"{tmp_path}/store.db",
        "JOBS_APITYPE": "process",
        "JOBS_PROCESS_JOBSDIR": f"{tmp_path}/jobs",
        "LOGGER_ENABLEFILE": "false",
    }
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "offloader", "serve"),
            env=environ,
            cwd=tmp_path,
            stderr=log,
        )
    try:
        async with asyncio.timeout(30), httpx.AsyncClient() as http:
            while True:
                with suppress(httpx.TransportError):
                    body = {"clientID": "plugin", "authKey": KEY}
                    url = f"http://127.0.0.1:{port}/register"
                    assert (await http.post(url, json=body, auth=ADMIN)).status_code == 201
                    break
                assert process.returncode is None, (tmp_path / "log").read_text()
                await asyncio.sleep(0.05)
        yield process.pid, port
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_thousands_of_wrong_logins_leave_the_memory_as_it_was(
    service: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    pid, port = service
    flood = Flood(port)
    began_s = time.monotonic()
    rss_mib = [_rss_mib(pid)]
    async with aclosing(flood):
        for count in (SETTLING, WATCHED):
            await flood.send(count)
            await flood.answered()  # what is hashed needs memory while it is
            rss_mib.append(_rss_mib(pid))
        took_s = time.monotonic() - began_s
    with capsys.disabled():
        shown = ", ".join(f"{each:.1f}" for each in rss_mib)
        per_s = flood.sent / took_s
        sys.stdout.write(
            f"\n{flood.sent} wrong logins, {per_s:.0f} a second: RSS {shown} MiB; "
            f"answers {dict(sorted(flood.statuses.items()))}\n"
        )

    _, settled_mib, after_mib = rss_mib
    assert after_mib - settled_mib <= MOST_GROWN_MIB
    assert set(flood.statuses) == {400, 401, 429}
    assert flood.statuses.total() == flood.sent == SETTLING + WATCHED
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        counted = _counted((await http.get("/metrics")).text)
        right = await http.post("/login", json={"clientID": "plugin", "authKey": KEY})
    assert counted == flood.statuses, "each is counted, by its status"
    assert right.status_code == 200


def _rss_mib(pid: int) -> float:
    return read_process_stats(pid).rss_bytes / (1 << 20)


def _counted(metrics: str) -> Counter[int]:
    """Refusals by status."""
    counted: Counter[int] = Counter()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            status = int(sample.labels.get("status", 0))
            if sample.name == "calls_offloader_http_request_seconds_count" and status >= 400:
                counted[status] += round(sample.value)
    return counted
