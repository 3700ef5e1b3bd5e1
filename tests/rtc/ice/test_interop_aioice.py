"""Against another implementation, aioice, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioice
import aioice.ice
import pytest

from rtc import stun
from rtc.ice import (
    FAR_FUTURE_NS,
    IceAgent,
    IceCredentials,
    IceEvent,
    IceTimings,
    Path,
    Selected,
    host_candidate,
)

Address = tuple[str, int]
TIMINGS = IceTimings(consent_interval_ns=100_000_000)


class SocketAgent(asyncio.DatagramProtocol):
    """Our agent on a UDP socket: what an owner does, in its smallest form."""

    def __init__(self, *, controlling: bool) -> None:
        self.agent = IceAgent(
            controlling=controlling, credentials=IceCredentials.generate(), timings=TIMINGS
        )
        self.data: asyncio.Queue[bytes] = asyncio.Queue()
        self.selected = asyncio.Event()
        self.measured = asyncio.Event()
        """The round trip is known: a check sent twice tells none, the answer about consent does."""
        self.events: list[IceEvent] = []
        self.answers = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.local: Address = transport.get_extra_info("sockname")[:2]
        self.agent.add_local(host_candidate(*self.local))

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        path = Path("udp", self.local, (addr[0], addr[1]))
        if stun.is_stun(data):
            self.answers += data[0] == 1
            self.agent.receive(data, path, time.monotonic_ns())
            self.pump()
        else:
            self.data.put_nowait(data)

    def pump(self) -> None:
        for path, datagram in self.agent.take_outgoing():
            self.transport.sendto(datagram, path.remote)
        for event in self.agent.take_events():
            self.events.append(event)
            if isinstance(event, Selected):
                self.selected.set()
        if self.agent.rtt_s:
            self.measured.set()

    async def tick(self) -> None:
        while True:
            due_ns = self.agent.tick(time.monotonic_ns())
            self.pump()
            await asyncio.sleep(min(0.02, max(0.0, (due_ns - time.monotonic_ns()) / 1e9)))


@asynccontextmanager
async def met(
    monkeypatch: pytest.MonkeyPatch, host: str, *, we_control: bool, they_control: bool
) -> AsyncIterator[tuple[SocketAgent, Any]]:
    """Both ends connected."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **kinds: [host])
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.1)
    loop = asyncio.get_running_loop()
    transport, ours = await loop.create_datagram_endpoint(
        lambda: SocketAgent(controlling=we_control), local_addr=(host, 0)
    )
    theirs: Any = aioice.Connection(ice_controlling=they_control)
    ticker = asyncio.create_task(ours.tick())
    try:
        await theirs.gather_candidates()
        theirs.remote_username = ours.agent.credentials.ufrag
        theirs.remote_password = ours.agent.credentials.password
        for candidate in ours.agent.local_candidates:
            await theirs.add_remote_candidate(aioice.Candidate.from_sdp(candidate.format()))
        await theirs.add_remote_candidate(None)
        now_ns = time.monotonic_ns()
        remote = IceCredentials(theirs.local_username, theirs.local_password)
        ours.agent.set_remote(remote, now_ns)
        for candidate in theirs.local_candidates:
            ours.agent.add_remote_candidate(candidate.to_sdp(), now_ns)
        ours.pump()
        async with asyncio.timeout(25):
            await theirs.connect()
            await ours.selected.wait()
        yield ours, theirs
    finally:
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)
        await theirs.close()
        transport.close()


@pytest.mark.parametrize(
    ("we_control", "they_control"), [(True, False), (False, True), (True, True), (False, False)]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_it_connects_and_carries_data_whoever_controls(
    monkeypatch: pytest.MonkeyPatch, host: str, we_control: bool, they_control: bool
) -> None:
    async with met(monkeypatch, host, we_control=we_control, they_control=they_control) as ends:
        ours, theirs = ends
        assert ours.agent.controlling is not theirs.ice_controlling
        path = ours.agent.selected
        assert path is not None
        await theirs.send(b"\x80 from them")
        ours.transport.sendto(b"\x80 from us", path.remote)
        async with asyncio.timeout(25):
            assert await ours.data.get() == b"\x80 from them"
            assert await theirs.recv() == b"\x80 from us"
            await ours.measured.wait()
        assert 0 < (ours.agent.rtt_s or 0) < 25


async def test_consent_is_given_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    async with met(monkeypatch, "127.0.0.1", we_control=True, they_control=False) as ends:
        ours, theirs = ends
        before = ours.answers
        async with asyncio.timeout(25):
            while ours.answers < before + 5:
                await asyncio.sleep(0.02)
        assert [type(event).__name__ for event in ours.events] == ["PathValidated", "Selected"]
        assert theirs._nominated
        assert ours.agent.due_ns < FAR_FUTURE_NS
