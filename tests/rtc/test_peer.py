"""Two peers on loopback: one with own sockets (a client), one on a shared port (a server)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from rtc.errors import PortTaken
from rtc.negotiation import Capabilities
from rtc.net.announced import Announced
from rtc.net.client_network import client_transport
from rtc.net.shared_port import SharedPort
from rtc.peer import Peer
from rtc.rtcp import KeyFrameRequest, build_pli, parse_rtcp
from rtc.rtp import build_rtp, parse_rtp
from rtc.sctp import DataChannel
from rtc.sdp import CodecDescription, Msid
from rtc.sections import LocalMedia

CAPABILITIES = Capabilities(
    audio_codecs=(CodecDescription(111, "opus", 48000, 2, "minptime=10;useinbandfec=1"),),
    video_codecs=(CodecDescription(96, "VP8", 90000, feedback=("nack", "nack pli")),),
    audio_extensions=("urn:ietf:params:rtp-hdrext:ssrc-audio-level",),
)


@dataclass
class Books:
    """Keeps what a peer reports."""

    connected: asyncio.Event = field(default_factory=asyncio.Event)
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[str] = field(default_factory=list)
    channels: asyncio.Queue[DataChannel] = field(default_factory=asyncio.Queue)
    messages: asyncio.Queue[bytes | str] = field(default_factory=asyncio.Queue)
    rtp: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    rtcp: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    def peer_connected(self) -> None:
        self.connected.set()

    def peer_failed(self, reason: str) -> None:
        self.reasons.append(reason)
        self.failed.set()

    def channel_opened(self, channel: DataChannel) -> None:
        self.channels.put_nowait(channel)

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None:
        self.messages.put_nowait(message)

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        self.rtp.put_nowait(packet)

    def rtcp_received(self, compound: bytes) -> None:
        self.rtcp.put_nowait(compound)


def client_peer(books: Books) -> Peer:
    return Peer(
        ice=lambda on_data, on_selected, on_lost: client_transport(
            controlling=True,
            on_data=on_data,
            on_selected=on_selected,
            on_lost=on_lost,
            addresses=["127.0.0.1"],
        ),
        capabilities=CAPABILITIES,
        events=books,
        channel_label="calls-dc",
        connect_timeout_s=25,
    )


@asynccontextmanager
async def shared_port() -> AsyncIterator[SharedPort]:
    mux = SharedPort()
    mux.open([Announced("udp", "127.0.0.1", 0, "127.0.0.1")], udp_port=0, tcp_port=0)
    try:
        yield mux
    finally:
        mux.close()


def server_peer(mux: SharedPort, books: Books) -> Peer:
    return Peer(
        ice=lambda on_data, on_selected, on_lost: mux.create_transport(
            controlling=False, on_data=on_data, on_selected=on_selected, on_lost=on_lost
        ),
        capabilities=CAPABILITIES,
        events=books,
        connect_timeout_s=25,
    )


@dataclass
class Pair:
    client: Peer
    server: Peer
    client_books: Books
    server_books: Books


@asynccontextmanager
async def connected_pair(mux: SharedPort) -> AsyncIterator[Pair]:
    client_books, server_books = Books(), Books()
    client, server = client_peer(client_books), server_peer(mux, server_books)
    client.negotiation.add_data_section()
    try:
        answer = await server.accept_offer(await client.create_offer())
        await client.accept_answer(answer)
        async with asyncio.timeout(25):
            await client_books.connected.wait()
            await server_books.connected.wait()
        yield Pair(client, server, client_books, server_books)
    finally:
        await client.close()
        await server.close()


async def test_data_flows_both_ways_on_the_channel_that_the_client_opens() -> None:
    async with shared_port() as mux, connected_pair(mux) as pair, asyncio.timeout(25):
        at_client = await pair.client_books.channels.get()
        at_server = await pair.server_books.channels.get()
        assert at_server.label == "calls-dc"
        assert at_client.send(b"\xcc\x01")
        assert await pair.server_books.messages.get() == b"\xcc\x01"
        assert at_server.send(b"\xcc\x02")
        assert await pair.client_books.messages.get() == b"\xcc\x02"


async def test_many_clients_share_one_port_and_get_only_their_own_packets() -> None:
    async with shared_port() as mux, asyncio.timeout(25):
        async with connected_pair(mux) as one, connected_pair(mux) as two:
            for number, pair in ((1, one), (2, two)):
                pair.server.send_rtp(
                    build_rtp(b"media", payload_type=111, sequence=number, timestamp=0, ssrc=number)
                )
            first = parse_rtp(await one.client_books.rtp.get())
            second = parse_rtp(await two.client_books.rtp.get())
            assert first is not None
            assert second is not None
            assert (first.ssrc, second.ssrc) == (1, 2)
            assert mux.peers == 2
        assert mux.peers == 0


async def test_rtcp_reaches_the_other_side_apart_from_rtp() -> None:
    async with shared_port() as mux, connected_pair(mux) as pair, asyncio.timeout(25):
        pair.client.send_rtcp(build_pli(sender_ssrc=1, media_ssrc=77))
        compound = await pair.server_books.rtcp.get()
        assert list(parse_rtcp(compound)) == [KeyFrameRequest(1, 77)]
        assert pair.server_books.rtp.empty()


async def test_a_server_offer_adds_a_track_and_the_answer_keeps_its_numbers() -> None:
    async with shared_port() as mux, connected_pair(mux) as pair:
        pair.server.negotiation.add_sender(
            "audio", LocalMedia(Msid("s1", "voice_s1_abc"), ssrc=4711, cname="s1")
        )
        answer = await pair.client.accept_offer(await pair.server.create_offer())
        await pair.server.accept_answer(answer)
        [media] = pair.client.negotiation.remote_media()
        assert media.msid.track_id == "voice_s1_abc"
        assert media.ssrcs == (4711,)
        assert media.codecs[0].payload_type == 111
        assert "a=recvonly" in answer


async def test_a_forged_packet_is_refused_and_counted() -> None:
    async with shared_port() as mux, connected_pair(mux) as pair:
        pair.client._ice.send(
            build_rtp(b"forged" * 10, payload_type=111, sequence=1, timestamp=0, ssrc=5)
        )
        pair.client.send_rtp(
            build_rtp(b"honest", payload_type=111, sequence=2, timestamp=0, ssrc=5)
        )
        async with asyncio.timeout(25):
            packet = parse_rtp(await pair.server_books.rtp.get())
        assert packet is not None
        assert packet.sequence == 2
        assert pair.server.packets_refused == 1


async def test_a_wrong_fingerprint_fails_the_connection() -> None:
    async with shared_port() as mux:
        client_books, server_books = Books(), Books()
        client, server = client_peer(client_books), server_peer(mux, server_books)
        client.negotiation.add_data_section()
        try:
            answer = await server.accept_offer(await client.create_offer())
            start = answer.index("sha-256 ") + len("sha-256 ")
            swapped = answer[start + 3 : start + 5] + answer[start + 2] + answer[start : start + 2]
            if swapped == answer[start : start + 5]:
                swapped = "00:00"
            await client.accept_answer(answer[:start] + swapped + answer[start + 5 :])
            async with asyncio.timeout(25):
                await client_books.failed.wait()
            assert "fingerprint" in client_books.reasons[0]
        finally:
            await client.close()
            await server.close()


async def test_closing_one_side_is_noticed_by_the_other() -> None:
    async with shared_port() as mux, connected_pair(mux) as pair, asyncio.timeout(25):
        await pair.server.close()
        await pair.client_books.failed.wait()
        assert pair.client_books.reasons == ["the other side closed the connection"]


async def test_a_taken_media_port_is_named() -> None:
    async with shared_port() as mux:
        other = SharedPort()
        with pytest.raises(PortTaken, match=f"127.0.0.1:{mux.udp_port}"):
            other.open(
                [Announced("udp", "127.0.0.1", 0, "127.0.0.1")], udp_port=mux.udp_port, tcp_port=0
            )
