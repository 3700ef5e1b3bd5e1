"""`python -m sfu` with two worker processes, driven over HTTP and /ws as the plugin does."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from sfu.media_port import SessionConfig, SessionOutlet
from sfu.messages import Close, Hello, Join, Leave, Rtc, RtcMessage, Vad, decode, encode

HOST = "127.0.0.1"
KEY = "k" * 32
BASIC = "Basic " + base64.b64encode(f"plugin:{KEY}".encode()).decode()


def free_port() -> int:
    """One that the settings allow, free for UDP and TCP."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with contextlib.ExitStack() as stack:
            try:
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Plugin:
    """One WebSocket of the plugin, and the sessions that it drives."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._outlets: dict[str, SessionOutlet] = {}
        self.closed: list[str] = []

    async def read(self) -> None:
        """Until the connection is closed."""
        async for data in self._socket:
            assert isinstance(data, bytes)
            message = decode(data)
            match message:
                case Rtc(inner) | Vad(inner):
                    self._outlets[inner.session_id](message)
                case Close(session_id):
                    self.closed.append(session_id)
                    self._outlets[session_id](message)
                case Hello():
                    pass

    async def join(self, config: SessionConfig, send: SessionOutlet) -> None:
        self._outlets[config.session_id] = send
        join = Join(config.call_id, config.user_id, config.session_id)
        await self._socket.send(encode(join))

    async def handle(self, session_id: str, message: RtcMessage) -> None:
        await self._socket.send(encode(Rtc(message)))

    async def leave(self, session_id: str) -> None:
        with contextlib.suppress(Exception):
            await self._socket.send(encode(Leave(session_id)))


class Served:
    """The process and its addresses."""

    def __init__(self, process: asyncio.subprocess.Process, http_port: int, log: Path) -> None:
        self.process = process
        self.url = f"{HOST}:{http_port}"
        self._log = log

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.log() if line["event"] == name]

    def workers(self) -> list[int]:
        pid = self.process.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found]

    @asynccontextmanager
    async def plugin(self) -> AsyncIterator[Plugin]:
        async with connect(
            f"ws://{self.url}/ws", additional_headers={"Authorization": BASIC}, proxy=None
        ) as socket:
            plugin = Plugin(socket)
            reading = asyncio.create_task(plugin.read())
            yield plugin
            reading.cancel()
            await asyncio.wait([reading])

    async def metrics(self) -> str:
        async with httpx.AsyncClient(base_url=f"http://{self.url}", trust_env=False) as http:
            return (await http.get("/metrics")).text


@asynccontextmanager
async def served(tmp_path: Path, **environ: str) -> AsyncIterator[Served]:
    log = tmp_path / "rtcd.log"
    http_port, media_port = free_port(), free_port()
    defaults = {
        "RTCD_API_HTTP_LISTENADDRESS": f"{HOST}:{http_port}",
        "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "RTCD_RTC_ICEADDRESSUDP": HOST,
        "RTCD_RTC_ICEADDRESSTCP": HOST,
        "RTCD_RTC_ICEPORTUDP": str(media_port),
        "RTCD_RTC_ICEPORTTCP": str(media_port),
        "RTCD_STORE_DATASOURCE": str(tmp_path / "store"),
        "RTCD_RTC_WORKERPROCESSES": "2",
        "RTCD_LOGGER_FILELOCATION": str(log),
        "RTCD_LOGGER_ENABLECONSOLE": "false",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sfu", "--config", str(tmp_path / "none.toml")),
        cwd=Path(__file__).parents[3],
        env=os.environ | defaults | environ,
    )
    served = Served(process, http_port, log)
    try:
        async with asyncio.timeout(25):
            while not log.exists() or not served.events("sfu: listening on"):
                assert process.returncode is None
                await asyncio.sleep(0.02)
            async with httpx.AsyncClient(base_url=f"http://{served.url}", trust_env=False) as http:
                body = {"clientID": "plugin", "authKey": KEY}
                assert (await http.post("/register", json=body)).status_code == 201
        yield served
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_two_calls_over_two_workers_from_join_to_drain(tmp_path: Path, guest: Any) -> None:
    async with served(tmp_path) as sfu, sfu.plugin() as plugin:
        workers = sfu.workers()
        assert len(workers) == 2
        async with AsyncExitStack() as stack:
            guests = [
                await stack.enter_async_context(guest(plugin, f"{call}{number}", call=call))
                for number in range(2)
                for call in ("one", "two")
            ]
            for speaker in guests[:2]:
                await speaker.speak()
            assert [await g.heard() for g in guests[2:]] == [g.session_id for g in guests[:2]]
            text = await sfu.metrics()
            assert 'rtcd_rtc_sessions_total{groupID="plugin"} 4' in text
            assert 'rtcd_rtc_calls_total{groupID="plugin"} 2' in text
            # The drain waits for those who are there.
            sfu.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(25):
                while not sfu.events("drain.waiting"):
                    await asyncio.sleep(0.02)
            assert sfu.process.returncode is None
            assert not plugin.closed
        async with asyncio.timeout(25):
            assert await sfu.process.wait() == 0
        assert sorted(plugin.closed) == sorted(g.session_id for g in guests)
        assert not any(map(exists, workers))
        joined = sfu.events("session.joined")
        assert sorted(line["session_id"] for line in joined) == sorted(plugin.closed)
        assert {line["worker"] for line in joined} == {0, 1}
        assert len(sfu.events("session.ended")) == 4
        assert not [line for line in sfu.log() if line["level"] == "error"]


@pytest.mark.slow
async def test_a_killed_worker_closes_its_sessions_and_the_next_join_works(
    tmp_path: Path, guest: Any
) -> None:
    async with served(tmp_path, RTCD_RTC_DTLS_INSECURE_SKIP_HELLOVERIFY="true") as sfu:
        async with sfu.plugin() as plugin:
            async with guest(plugin, "one", call="one"), guest(plugin, "two", call="two"):
                [warned] = {
                    tuple(sorted(line["session_id"] for line in sfu.events(event)))
                    for event in ("dtls.hello_verify_skipped", "session.joined")
                }
                assert len(warned) == 2
                os.kill(sfu.workers()[0], signal.SIGKILL)
                async with asyncio.timeout(25):
                    while not plugin.closed:
                        await asyncio.sleep(0.02)
                [closed] = plugin.closed
            assert len(sfu.events("worker.died")) == 1
            async with guest(plugin, "again", call="one"):
                pass
            async with asyncio.timeout(25):
                while len(sfu.workers()) < 2:
                    await asyncio.sleep(0.05)
            assert closed in {line["session_id"] for line in sfu.events("session.joined")}
        sfu.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(25):
            assert await sfu.process.wait() == 0


@pytest.mark.slow
async def test_a_second_signal_ends_all_sessions_in_all_workers(tmp_path: Path, guest: Any) -> None:
    async with served(tmp_path) as sfu, sfu.plugin() as plugin:
        async with guest(plugin, "one", call="one"), guest(plugin, "two", call="two"):
            sfu.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(25):
                while not sfu.events("drain.waiting"):
                    await asyncio.sleep(0.02)
            sfu.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(25):
                assert await sfu.process.wait() == 0
            assert len(plugin.closed) == 2
