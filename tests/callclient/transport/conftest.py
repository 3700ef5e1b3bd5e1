"""Real clients in a call through the stand-in and a real SFU, on networks that lose datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from callclient.client import CallClient, CallClientConfig
from callclient.errors import CallError
from callclient.events import CallEvent, Joined, TrackAdded
from callclient.receive.tracks import RemoteTrack
from testbed.browser.meeting import Meeting, started_meeting
from testbed.certificates import make_certificates

_SILENCE = bytes([0xF8, 0xFF, 0xFE])
_PACKET_S = 0.02
_PATIENCE_S = 30.0

Cut = Callable[..., AbstractAsyncContextManager[None]]


@dataclass
class Caller:
    """One client that is in the call, or tries to be."""

    client: CallClient
    running: asyncio.Task[None]
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    tracks: asyncio.Queue[RemoteTrack] = field(default_factory=asyncio.Queue)
    events: list[CallEvent] = field(default_factory=list)
    frames: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def read(self) -> None:
        async for event in self.client.events():
            self.events.append(event)
            if isinstance(event, Joined):
                self.joined.set()
            elif isinstance(event, TrackAdded):
                self.tasks.append(asyncio.create_task(self._listen(event.track)))

    async def talk(self) -> None:
        """Publish a voice and go on talking."""
        voice = await self.client.publish_voice()
        await self.client.set_muted(False)

        async def packets() -> None:
            timestamp = 0
            while True:
                voice.send(_SILENCE, rtp_timestamp=timestamp, marker=False)
                timestamp += 960
                await asyncio.sleep(_PACKET_S)

        self.tasks.append(asyncio.create_task(packets()))

    async def hears(self) -> float:
        """Wait for the next ten frames from now on; how long that took, seconds."""
        loop = asyncio.get_running_loop()
        began_s, before = loop.time(), self.frames
        async with asyncio.timeout(_PATIENCE_S):
            while self.frames < before + 10:
                await asyncio.sleep(0.005)
        return loop.time() - began_s

    async def go(self) -> None:
        await self.client.leave()
        await asyncio.wait([self.running])
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def _listen(self, track: RemoteTrack) -> None:
        async for _ in track.frames():
            self.frames += 1


@dataclass
class Site:
    """A meeting and who is in it."""

    meeting: Meeting
    callers: list[Caller] = field(default_factory=list)

    @property
    def media_port(self) -> int:
        return self.meeting.settings.ports.media

    def start(self, name: str, **config: Any) -> Caller:
        """Begin to join as a person; may fail."""
        client = CallClient(
            CallClientConfig(
                site_url=self.meeting.url,
                auth_token=self.meeting.world["users"][name]["token"],
                channel_id=self.meeting.world["channel_id"],
                **config,
            )
        )
        caller = Caller(client, asyncio.create_task(client.run()))
        caller.tasks.append(asyncio.create_task(caller.read()))
        self.callers.append(caller)
        return caller

    async def join(self, name: str, **config: Any) -> Caller:
        """Join as a person; raises what ends the attempt."""
        caller = self.start(name, **config)
        joined = asyncio.create_task(caller.joined.wait())
        await asyncio.wait([joined, caller.running], return_when=asyncio.FIRST_COMPLETED)
        joined.cancel()
        if not caller.joined.is_set():
            await caller.running
        return caller

    async def configure(self, **values: Any) -> None:
        """What the plugin tells clients."""
        async with httpx.AsyncClient(base_url=self.meeting.url) as http:
            (await http.post("/testbed/config", json=values)).raise_for_status()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def meeting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Meeting]:
    """SFU and stand-in as processes."""
    async with started_meeting(tmp_path_factory.mktemp("meeting")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def site(meeting: Meeting) -> AsyncIterator[Site]:
    """A call of this test; everybody leaves in the end."""
    site = Site(meeting)
    yield site
    for caller in site.callers:
        with contextlib.suppress(CallError):
            await caller.go()
    await site.configure(ICEServersConfigs=[])


async def _iptables(*arguments: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        "iptables", "-w", *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


@pytest_asyncio.fixture(loop_scope="module")
async def cut(engine_missing: Callable[[str, str], None]) -> Cut:
    """`async with cut("udp", port):` nothing of that transport gets to that port of loopback, or from it, but
    what the ports `let_through` ("low:high") of the other end exchange with it."""
    probe = ("INPUT", "-i", "lo", "-p", "udp", "--dport", "9", "-j", "ACCEPT")
    if shutil.which("iptables") is None or not await _iptables("-I", *probe):
        engine_missing("iptables", "not on PATH, or not allowed")
    await _iptables("-D", *probe)

    @asynccontextmanager
    async def dropped(transport: str, port: int, let_through: str = "") -> AsyncIterator[None]:
        rules = []
        for ours, theirs in (("--sport", "--dport"), ("--dport", "--sport")):
            spared = ("!", theirs, let_through) if let_through else ()
            rule = ("INPUT", "-i", "lo", "-p", transport, ours, str(port), *spared, "-j", "DROP")
            rules.append(rule)
        try:
            for rule in rules:
                assert await _iptables("-I", *rule)
            yield
        finally:
            for rule in rules:
                await _iptables("-D", *rule)

    return dropped


@dataclass
class Coturn:
    """A coturn on loopback: UDP and TCP on one port, TLS on another, one secret."""

    port: int
    tls_port: int
    relay_ports: tuple[int, int]
    ca_file: Path
    log: Path
    secret: str = "a secret of the test"

    def url(self, link: str) -> str:
        if link == "tls":
            return f"turns:127.0.0.1:{self.tls_port}?transport=tcp"
        return f"turn:127.0.0.1:{self.port}?transport={link}"

    async def logged(self, text: str) -> None:
        """Wait until its log has this."""
        async with asyncio.timeout(_PATIENCE_S):
            while text not in self.log.read_text():
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(loop_scope="module")
async def coturn(
    tmp_path: Path, engine_missing: Callable[[str, str], None]
) -> AsyncIterator[Coturn]:
    """A real TURN server."""
    program = shutil.which("turnserver")
    if program is None:
        engine_missing("coturn", "no turnserver on PATH: apt-get install coturn")
    assert program is not None
    certificates = make_certificates(tmp_path / "certificates", address="127.0.0.1")
    low = random.randrange(28_200, 31_900)
    with socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.bind(("127.0.0.1", 0))
        ports = [sock.getsockname()[1] for sock in (first, second)]
    server = Coturn(*ports, (low, low + 40), ca_file=certificates.ca, log=tmp_path / "coturn.log")
    options = {
        "listening-ip": "127.0.0.1",
        "relay-ip": "127.0.0.9",  # none of this host's candidates
        "listening-port": server.port,
        "tls-listening-port": server.tls_port,
        "min-port": low,
        "max-port": low + 40,
        "cert": certificates.certificate,
        "pkey": certificates.key,
        "realm": "test",
        "static-auth-secret": server.secret,
        "log-file": "stdout",
        "pidfile": tmp_path / "coturn.pid",
        "userdb": tmp_path / "coturn.db",
    }
    switches = [
        "use-auth-secret",
        "no-dtls",
        "no-cli",
        "simple-log",
        "verbose",
        "allow-loopback-peers",
    ]
    with server.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            "-n",
            *(f"--{name}={value}" for name, value in options.items()),
            *(f"--{switch}" for switch in switches),
            stdout=log,
            stderr=log,
        )
    try:
        await _listens(server.tls_port)
        yield server
    finally:
        process.terminate()
        await process.wait()


async def _listens(port: int) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
