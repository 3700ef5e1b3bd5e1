"""Peers whose network is bad: TCP only, UDP that dies, restarts, silence, and an end at any moment."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from rtc.ice.timings import DEFAULT_TIMINGS, IceTimings
from rtc.negotiation import Capabilities
from rtc.net.announced import Announced
from rtc.net.client_network import ClientNetwork
from rtc.net.server_port import SERVER_TIMINGS
from rtc.net.shared_port import SharedPort
from rtc.net.transport import IceTransport
from rtc.peer import Peer
from rtc.rtp import build_rtp, parse_rtp
from rtc.sctp import DataChannel
from rtc.sdp import CodecDescription

MS = 1_000_000
QUICK = {
    "consent_interval_ns": 100 * MS,
    "consent_retry_ns": 50 * MS,
    "abandon_ns": 200 * MS,
    "disconnected_ns": 300 * MS,
    "expiry_ns": 1000 * MS,
    "tcp_delay_ns": 100 * MS,
    "rto_ns": 50 * MS,
    "max_rto_ns": 100 * MS,
    "linger_ns": 50 * MS,
    "upgrade_ns": 300 * MS,
}
CAPABILITIES = Capabilities(
    audio_codecs=(CodecDescription(111, "opus", 48000, 2, "minptime=10;useinbandfec=1"),),
    video_codecs=(),
    audio_extensions=(),
)


@dataclass
class Side:
    """A peer and what it tells."""

    network: ClientNetwork | SharedPort
    controlling: bool
    timings: IceTimings
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[str] = field(default_factory=list)
    channels: list[DataChannel] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peer = Peer(
            ice=self._transport,
            capabilities=CAPABILITIES,
            events=self,
            channel_label="calls-dc" if self.controlling else None,
            connect_timeout_s=25,
        )

    def _transport(
        self,
        on_data: Callable[[bytes], None],
        on_selected: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> IceTransport:
        self.ice = IceTransport(
            self.network,
            controlling=self.controlling,
            on_data=on_data,
            on_selected=on_selected,
            on_lost=on_lost,
            timings=self.timings,
        )
        return self.ice

    @property
    def transport(self) -> str:
        return self.ice.selected.transport if self.ice.selected else ""

    def peer_connected(self) -> None:
        self.connected.set()

    def peer_failed(self, reason: str) -> None:
        self.reasons.append(reason)
        self.failed.set()

    def channel_opened(self, channel: DataChannel) -> None:
        self.channels.append(channel)

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None:
        pass

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        header = parse_rtp(packet)
        assert header is not None
        self.sequences.append(header.sequence)

    def rtcp_received(self, compound: bytes) -> None:
        pass

    def send(self, sequence: int) -> None:
        self.peer.send_rtp(
            build_rtp(b"media", payload_type=111, sequence=sequence, timestamp=0, ssrc=7)
        )


@asynccontextmanager
async def server_port(host: str = "127.0.0.1") -> AsyncIterator[SharedPort]:
    port = SharedPort()
    announced = [Announced(kind, host, 0, host) for kind in ("udp", "tcp")]
    port.open(announced, udp_port=0, tcp_port=0)
    try:
        yield port
    finally:
        port.close()


@dataclass
class Pair:
    client: Side
    server: Side

    async def negotiate(self) -> None:
        answer = await self.server.peer.accept_offer(await self.client.peer.create_offer())
        await self.client.peer.accept_answer(answer)

    async def exchange(self, first: int) -> None:
        """Media passes both ways, now."""
        async with asyncio.timeout(25):
            for sender, receiver in ((self.client, self.server), (self.server, self.client)):
                sender.send(first)
                while first not in receiver.sequences:
                    await asyncio.sleep(0.001)

    async def close(self) -> None:
        await self.client.peer.close()
        await self.server.peer.close()


def make_pair(port: SharedPort, *, host: str = "127.0.0.1", udp: bool = True) -> Pair:
    client = Side(ClientNetwork(addresses=[host], udp=udp), True, replace(DEFAULT_TIMINGS, **QUICK))
    server = Side(port, False, replace(SERVER_TIMINGS, **QUICK))
    client.peer.negotiation.add_data_section()
    return Pair(client, server)


@asynccontextmanager
async def connected(
    port: SharedPort, *, host: str = "127.0.0.1", udp: bool = True
) -> AsyncIterator[Pair]:
    pair = make_pair(port, host=host, udp=udp)
    try:
        await pair.negotiate()
        async with asyncio.timeout(25):
            await pair.client.connected.wait()
            await pair.server.connected.wait()
        yield pair
    finally:
        await pair.close()


async def until(holds: Callable[[], object], *, within_s: float = 25) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.002)


def drop_udp(pair: Pair, port: SharedPort) -> Callable[[], None]:
    """From now on no datagram arrives at either end, until what is returned is called."""
    assert isinstance(pair.client.network, ClientNetwork)
    sockets = [*pair.client.network._sockets.values()]
    sockets += [shared.udp for shared in port._sockets.values()]
    before = [udp._on_datagram for udp in sockets]
    for udp in sockets:
        udp._on_datagram = lambda data, source: None

    def restore() -> None:
        for udp, on_datagram in zip(sockets, before, strict=True):
            udp._on_datagram = on_datagram

    return restore


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_without_udp_everything_goes_over_tcp() -> None:
    async with server_port() as port, connected(port, udp=False) as pair:
        assert (pair.client.transport, pair.server.transport) == ("tcp", "tcp")
        await pair.exchange(1)
        await until(lambda: pair.client.channels and pair.server.channels)
    assert len(port._flows) == 0


async def test_with_both_udp_is_taken_and_no_tcp_connection_made() -> None:
    async with server_port() as port, connected(port) as pair:
        assert pair.client.transport == "udp"
        await asyncio.sleep(0.15)
        assert len(port._flows) == 0


@pytest.mark.usefixtures("ipv6")
async def test_ipv6_works_over_udp_and_tcp() -> None:
    for udp in (True, False):
        async with server_port("::1") as port, connected(port, host="::1", udp=udp) as pair:
            await pair.exchange(1)
            assert pair.client.transport == ("udp" if udp else "tcp")


async def test_media_moves_to_tcp_when_udp_dies() -> None:
    async with server_port() as port, connected(port) as pair:
        await pair.exchange(1)
        drop_udp(pair, port)
        await until(lambda: pair.client.transport == pair.server.transport == "tcp")
        await pair.exchange(2)
        assert not pair.client.reasons + pair.server.reasons


async def test_media_moves_back_to_udp_as_soon_as_it_works_and_to_tcp_again() -> None:
    async with server_port() as port, connected(port) as pair:
        for turn in range(2):
            restore = drop_udp(pair, port)
            await until(lambda: pair.client.transport == pair.server.transport == "tcp")
            await pair.exchange(10 + turn)
            restore()
            await until(lambda: pair.client.transport == pair.server.transport == "udp")
            await pair.exchange(20 + turn)
            await until(lambda: len(port._flows) == 0)


async def test_media_moves_to_another_flow_when_its_tcp_connection_dies() -> None:
    async with server_port() as port, connected(port, udp=False) as pair:
        await pair.exchange(1)
        [flow] = port._flows._flows.values()
        flow._socket.shutdown(socket.SHUT_RDWR)
        await until(lambda: pair.client.transport == "")
        assert pair.client.peer.egress.send is None
        await until(lambda: pair.client.transport == pair.server.transport == "tcp")
        await pair.exchange(2)


async def test_who_falls_silent_is_given_up_and_nothing_is_sent_any_more() -> None:
    """Consent lasts 30 s (RFC 7675); here 1 s."""
    async with server_port() as port, connected(port) as pair:
        assert isinstance(pair.client.network, ClientNetwork)
        pair.client.network.forget(pair.client.ice)  # its host vanishes without a word
        pair.client.network._flows.connect = lambda path, owner: None
        began = time.monotonic()
        await asyncio.wait_for(pair.server.failed.wait(), 25)
        assert time.monotonic() - began >= 0.8
        assert "no consent to send" in pair.server.reasons[0]
        assert pair.server.peer.egress.send is None
        await asyncio.wait_for(pair.client.failed.wait(), 25)
        assert len(pair.client.reasons) == 1


async def test_media_flows_through_an_ice_restart_of_either_side() -> None:
    async with server_port() as port, connected(port) as pair:
        await pair.exchange(1)
        sent, going = [0], True

        async def talk() -> None:
            while going:
                sent[0] += 1
                pair.client.send(100 + sent[0])
                pair.server.send(100 + sent[0])
                await asyncio.sleep(0.002)

        talking = asyncio.create_task(talk())
        for asking, answering in ((pair.client, pair.server), (pair.server, pair.client)):
            before = pair.client.ice.credentials, pair.server.ice.credentials
            asking.peer.restart_ice()
            answer = await answering.peer.accept_offer(await asking.peer.create_offer())
            await asking.peer.accept_answer(answer)
            assert pair.client.ice.credentials != before[0]
            assert pair.server.ice.credentials != before[1]
            await asyncio.sleep(0.3)  # a new path is selected, the old one is released
        going = False
        await talking
        await pair.exchange(50_000)
        for side in (pair.client, pair.server):
            missing = set(range(101, 101 + sent[0])) - set(side.sequences)
            assert not missing
            assert not side.reasons


async def test_an_ice_restart_gets_media_from_dead_udp_to_tcp() -> None:
    async with server_port() as port, connected(port) as pair:
        drop_udp(pair, port)
        pair.client.peer.restart_ice()
        await pair.negotiate()
        await until(lambda: pair.client.transport == pair.server.transport == "tcp")
        await pair.exchange(1)


async def test_an_offer_of_the_same_credentials_restarts_nothing() -> None:
    async with server_port() as port, connected(port) as pair:
        before = pair.server.ice.credentials
        for _ in range(3):
            await pair.negotiate()
        assert pair.server.ice.credentials == before
        await pair.exchange(1)


async def test_the_other_sides_goodbye_stops_sending_at_once() -> None:
    async with server_port() as port, connected(port) as pair:
        await pair.client.peer.close()
        await asyncio.wait_for(pair.server.failed.wait(), 25)
        assert pair.server.reasons == ["the other side closed the connection"]
        refused = pair.server.peer.packets_refused
        pair.server.send(1)
        assert pair.server.peer.packets_refused == refused


@pytest.mark.parametrize("udp", [True, False], ids=["udp", "tcp"])
async def test_an_end_at_any_moment_of_the_beginning_leaves_nothing(udp: bool) -> None:
    async with server_port() as port:

        async def end_at(step: int) -> None:
            pair = make_pair(port, udp=udp)
            if step > 0:
                await pair.negotiate()
                await asyncio.sleep((step - 1) * 0.005)
            first, second = (pair.client, pair.server)[:: 1 if step % 2 else -1]
            await asyncio.gather(first.peer.close(), first.peer.close())
            await second.peer.close()
            second.peer.send_rtp(bytes(20))

        await asyncio.gather(*(end_at(step) for step in range(60)))
        await until(lambda: len(asyncio.all_tasks()) == 1)
        await until(lambda: port.peers == 0 and not port._flows._owners)


async def test_a_server_that_nobody_reaches_says_so_in_time() -> None:
    async with server_port() as port:
        pair = make_pair(port)
        pair.server.peer._connect_timeout_s = 0.2
        await pair.server.peer.accept_offer(await pair.client.peer.create_offer())
        drop_udp(pair, port)
        await asyncio.wait_for(pair.server.failed.wait(), 25)
        assert pair.server.reasons == ["ICE: no pair worked within 0.2 s"]
        await pair.close()
