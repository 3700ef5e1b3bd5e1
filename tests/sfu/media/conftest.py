"""The media plane without sockets: real sessions, negotiation and SRTP; no ICE, DTLS or SCTP below."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rtc import calls_dc
from rtc.calls_dc import DcMessage, DcType
from rtc.fanout import Egress
from rtc.ice.credentials import IceCredentials
from rtc.negotiation import Capabilities, Negotiation
from rtc.rtcp import RtcpMessage, parse_rtcp
from rtc.rtp import RtpHeader, build_rtp, header_extension, parse_rtp
from rtc.sdp import CodecDescription, MediaKind, Msid
from rtc.sections import LocalMedia, LocalTransport, Section
from rtc.srtp import PROFILES, SrtpContext
from rtc.transport_cc import EXTENSION_URI as TRANSPORT_CC
from sfu.capabilities import AUDIO_LEVEL, MID, RID
from sfu.limits import Limits
from sfu.media_port import SessionConfig
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad
from sfu.server import SfuServer

CAPABILITIES = Capabilities(
    audio_codecs=(CodecDescription(109, "opus", 48_000, 2),),
    video_codecs=(CodecDescription(120, "VP8", 90_000), CodecDescription(99, "AV1", 90_000)),
    audio_extensions=(AUDIO_LEVEL, TRANSPORT_CC),
    video_extensions=(MID, RID, TRANSPORT_CC),
    extension_numbers=((AUDIO_LEVEL, 7), (TRANSPORT_CC, 9), (MID, 4), (RID, 10)),
)
"""Of a client, with other numbers than the SFU's own."""
TRANSPORT = LocalTransport("client-ufrag-0123", "p" * 22, "AA:BB")


@dataclass(frozen=True)
class Received:
    """One packet as a receiver decrypted it."""

    header: RtpHeader
    packet: bytes

    @property
    def payload(self) -> bytes:
        return self.packet[self.header.payload_start : self.header.payload_end]

    def extension(self, number: int) -> bytes | None:
        return header_extension(self.packet, number)


class Receiver:
    """The way out to one peer, with real keys: what was sent can be read again."""

    def __init__(self) -> None:
        material = secrets.token_bytes(PROFILES[0].material_bytes)
        self._outbound = SrtpContext(PROFILES[0], material, "outbound")
        self._inbound = SrtpContext(PROFILES[0], material, "inbound")
        self.egress = Egress()
        self.egress.srtp = self._outbound.handle
        self.egress.send = self._sent
        self.datagrams: list[bytes] = []
        self._read: list[Received] = []

    def _sent(self, datagram: bytes | memoryview) -> None:
        self.datagrams.append(bytes(datagram))

    def take(self) -> list[Received]:
        """What was sent since the last call. Repetitions are read as they are."""
        packets = []
        for datagram in self.datagrams:
            plain = self._inbound.unprotect_rtp(datagram)
            if plain is None:  # a repetition: another reader's replay window does not know it yet
                self._inbound.forget(int.from_bytes(datagram[8:12]))
                plain = self._inbound.unprotect_rtp(datagram)
            assert plain is not None
            header = parse_rtp(plain)
            assert header is not None
            packets.append(Received(header, plain))
        self.datagrams.clear()
        return packets


class Wire(Receiver):
    """What stands in place of ICE under a peer."""

    def __init__(self) -> None:
        super().__init__()
        self.credentials = IceCredentials("sfu-ufrag-" + secrets.token_hex(4), "q" * 22)
        self.remote_credentials: IceCredentials | None = None
        self.rtt_s = None
        self.rtcp: list[bytes] = []
        """What the SFU sent of RTCP, before encryption."""
        self.closed = False

    @property
    def offered_credentials(self) -> IceCredentials:
        return self.credentials

    def commit_restart(self) -> None:
        pass

    def candidate_lines(self) -> tuple[str, ...]:
        return ("1 1 udp 1 127.0.0.1 8443 typ host",)

    def start(self, remote: IceCredentials) -> None:
        self.remote_credentials = remote

    def restart(self) -> None:
        self.credentials = IceCredentials("sfu-ufrag-" + secrets.token_hex(4), "r" * 22)

    def add_remote_candidate(self, line: str) -> None:
        pass

    def send(self, datagram: bytes) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        self.egress.send = None

    refused_requests = held_checks = 0

    def refused(self) -> dict[str, int]:
        return {"ice_request": self.refused_requests, "check": self.held_checks}

    def take_rtcp(self) -> list[RtcpMessage]:
        messages = [message for packet in self.rtcp for message in parse_rtcp(packet)]
        self.rtcp.clear()
        return messages


class Wires:
    """The media port: hands out wires."""

    udp_port = tcp_port = 8443
    dropped_datagrams = unsendable = refused_flows = 0
    tcp_queue_drops = 7

    def __init__(self) -> None:
        self.made: list[Wire] = []

    def announce(self, announced: Sequence[Any]) -> None:
        pass

    def create_transport(self, **_callbacks: Any) -> Wire:
        self.made.append(Wire())
        return self.made[-1]

    def close(self) -> None:
        pass


@dataclass(eq=False)
class Upstream:
    """One SSRC that a member sends, with its counters."""

    member: Member
    ssrc: int
    codec: str
    section: Section
    rid: str = ""
    sequence: int = 100
    timestamp: int = 5000

    def send(
        self,
        payload: bytes = b"payload",
        *,
        at_ns: int = 0,
        step: int = 960,
        sequence: int | None = None,
        extensions: tuple[tuple[int, bytes], ...] = (),
        level: int | None = None,
        marker: bool = False,
    ) -> int:
        """Send the next packet, or one with this sequence number; returns the number."""
        if sequence is None:
            self.sequence = sequence = (self.sequence + 1) & 0xFFFF
            self.timestamp += step
        ids = self.section.extensions
        if self.rid:
            names = ((ids[MID], self.section.mid.encode()), (ids[RID], self.rid.encode()))
            extensions = (*names, *extensions)
        if level is not None:
            extensions = (*extensions, (ids[AUDIO_LEVEL], bytes([level])))
        packet = build_rtp(
            payload,
            payload_type=self.section.payload_type(self.codec) or 0,
            sequence=sequence,
            timestamp=self.timestamp,
            ssrc=self.ssrc,
            extensions=extensions,
            marker=marker,
        )
        self.member.session.rtp_received(packet, at_ns)
        return sequence

    def send_picture(self, picture: int, *, key: bool, packets: int = 2, at_ns: int = 0) -> None:
        """One VP8 frame with a 15-bit picture id."""
        for index in range(packets):
            first = 0x90 if index == 0 else 0x80
            descriptor = bytes([first, 0x80, 0x80 | picture >> 8 & 0x7F, picture & 0xFF])
            tag = bytes([0x00 if key else 0x01])
            self.send(
                descriptor + tag + bytes([index]) * 20,
                at_ns=at_ns,
                step=0 if index else 4500,
                marker=index == packets - 1,
            )


class Channel:
    """The member's data channel, as the SFU holds it."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.open = True

    def send(self, message: bytes | str) -> bool:
        self._member.channel_received(message)
        return True


@dataclass
class Member:
    """One participant: answers offers, publishes, and keeps what it was told."""

    server: SfuServer
    config: SessionConfig
    wire: Wire
    answers: bool = True
    transport: LocalTransport = TRANSPORT
    negotiation: Negotiation = field(default_factory=lambda: Negotiation(CAPABILITIES))
    messages: list[Rtc | Vad | Close] = field(default_factory=list)
    channel_messages: list[DcMessage | str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """`map`, `offer` and `answer` in the order in which they came."""
    offers: list[str] = field(default_factory=list)
    """Of the SFU."""
    answer: str = ""
    """The SFU's newest."""
    change_answer: Callable[[str], str] = lambda text: text
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def session(self) -> Any:
        return self.server._running[self.id].session

    @property
    def id(self) -> str:
        return self.config.session_id

    @property
    def tracks(self) -> dict[str, LocalMedia]:
        """What it is sent by the newest description, by type and sender."""
        return {
            m.msid.track_id.rpartition("_")[0]: LocalMedia(m.msid, m.ssrcs[0], "")
            for m in self.negotiation.remote_media()
        }

    @property
    def media_map(self) -> dict[str, dict[str, str]]:
        """The newest."""
        maps = [
            m.payload
            for m in self.channel_messages
            if isinstance(m, DcMessage) and m.type is DcType.MEDIA_MAP
        ]
        return maps[-1] if maps else {}

    def plugin_received(self, message: Rtc | Vad | Close) -> None:
        self.messages.append(message)
        if isinstance(message, Rtc) and message.message.type is RtcType.SDP:
            self._described(*calls_dc.read_sdp_json(message.message.data), over_channel=False)

    def channel_received(self, data: bytes | str) -> None:
        message = data if isinstance(data, str) else calls_dc.decode(data)
        self.channel_messages.append(message)
        if isinstance(message, DcMessage) and message.type is DcType.SDP:
            self._described(*calls_dc.unpack_sdp(message.payload), over_channel=True)
        elif isinstance(message, DcMessage) and message.type is DcType.MEDIA_MAP:
            self.told.append("map")

    def _described(self, kind: str, text: str, *, over_channel: bool) -> None:
        self.told.append(kind)
        if kind == "answer":
            self.answer = text
            if self.negotiation.offering:
                self.negotiation.accept_answer(text)
            return
        self.offers.append(text)
        if self.answers:
            if self.negotiation.offering:
                self.negotiation.withdraw_offer()  # clients are the polite side
            self.reply(text, over_channel=over_channel)

    def reply(self, offer: str, *, over_channel: bool = False) -> None:
        answer, _ = self.negotiation.accept_offer(offer, self.transport)
        self.describe("answer", self.change_answer(answer), over_channel=over_channel)

    def describe(self, kind: str, text: str, *, over_channel: bool = False) -> None:
        if over_channel:
            self.say(DcMessage(DcType.SDP, calls_dc.pack_sdp(kind, text)))
        else:
            self.tell(RtcType.SDP, {"type": kind, "sdp": text})

    def tell(self, kind: RtcType, value: dict[str, str] | None = None) -> None:
        """A message through the plugin."""
        data = json.dumps(value).encode() if value else b""
        self._tasks.append(
            asyncio.ensure_future(self.server.handle(self.id, RtcMessage(kind, self.id, data)))
        )

    def say(self, message: DcMessage | bytes | str) -> None:
        """A message over the data channel."""
        data = calls_dc.encode(message) if isinstance(message, DcMessage) else message
        self.session.channel_message(self.session._outbox.channel, data)

    async def settle(self) -> None:
        """Until nothing more happens without time going by."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def offer(self, *, over_channel: bool = False) -> str:
        """Describe what it sends now."""
        text = self.negotiation.create_offer(self.transport)
        self.describe("offer", text, over_channel=over_channel)
        await self.settle()
        return text

    def open_channel(self) -> None:
        self.session.channel_opened(Channel(self))

    async def publish(
        self, kind: MediaKind, stream: str, *, codec: str = "", ssrc: int | None = None
    ) -> Upstream:
        """Declare a track; no packet yet."""
        number = secrets.randbits(32) if ssrc is None else ssrc
        media = LocalMedia(Msid(stream, secrets.token_hex(4)), number, self.id)
        section = self.negotiation.add_sender(kind, media)
        await self.offer()
        return Upstream(self, number, codec or ("opus" if kind == "audio" else "VP8"), section)

    async def publish_layers(
        self,
        stream: str,
        rids: Sequence[str] = ("l", "h"),
        *,
        codec: str = "VP8",
        declare_ssrcs: bool = False,
    ) -> list[Upstream]:
        """Declare video with simulcast: rids and no SSRCs."""
        media = LocalMedia(Msid(stream, "layered"), 1, self.id)
        section = self.negotiation.add_sender("video", media)
        lines = self.negotiation.create_offer(self.transport).split("\r\n")
        at = lines.index(f"a=msid:{stream} layered")
        rid_lines = [*(f"a=rid:{rid} send" for rid in rids), f"a=simulcast:send {';'.join(rids)}"]
        if declare_ssrcs:
            rid_lines += [f"a=ssrc:{0x1000 + i} cname:x" for i in range(len(rids))]
        lines[at:at] = rid_lines
        lines = [line for line in lines if not line.startswith("a=ssrc:1 ")]
        self.describe("offer", "\r\n".join(lines))
        await self.settle()
        return [
            Upstream(self, 0x1000 + i, codec, section, rid, sequence=1000 * (i + 1))
            for i, rid in enumerate(rids)
        ]

    async def talk(self, stream: str = "voice-stream") -> Upstream:
        """Publish a voice and send its first packet."""
        voice = await self.publish("audio", stream)
        voice.send()
        await self.settle()
        return voice

    async def share(self, stream: str = "screen-stream", *, codec: str = "VP8") -> Upstream:
        """Announce and publish a screen and send its first picture."""
        self.tell(RtcType.SCREEN_ON, {"screenStreamID": stream})
        screen = await self.publish("video", stream, codec=codec)
        screen.send_picture(1, key=True)
        await self.settle()
        return screen

    @property
    def closes(self) -> int:
        return sum(isinstance(message, Close) for message in self.messages)

    @property
    def voice(self) -> list[bool]:
        """Voice activity as the plugin heard it."""
        return [m.message.type is RtcType.VOICE_ON for m in self.messages if isinstance(m, Vad)]


class Venue:
    """An SFU and its members."""

    def __init__(self, server: SfuServer, wires: Wires) -> None:
        self.server = server
        self.wires = wires

    async def join(
        self,
        name: str,
        *,
        call: str = "call",
        av1: bool = False,
        dc: bool = False,
        ready: bool = True,
        answers: bool = True,
    ) -> Member:
        """A participant; `ready` with its data channel open."""
        config = SessionConfig("group", call, f"user-{name}", name, "", av1, dc)
        member: list[Member] = []
        await self.server.join(config, lambda message: member[0].plugin_received(message))
        member.append(Member(self.server, config, self.wires.made[-1]))
        me = member[0]
        await asyncio.sleep(0)
        if ready:
            me.negotiation.add_data_section()
            await me.offer()
            me.answers = answers
            me.open_channel()
            await me.settle()
        return me


@pytest.fixture
def limits() -> Limits | None:
    """Of the venue; a test that wants others parametrizes it."""
    return None


@pytest.fixture
async def venue(monkeypatch: pytest.MonkeyPatch, limits: Limits | None) -> AsyncIterator[Venue]:
    """No ticker runs: tests call `tick` and `report` at the times they mean."""
    monkeypatch.setattr(
        "rtc.peer.Peer.send_rtcp", lambda peer, compound: peer._ice.rtcp.append(compound)
    )

    async def announced() -> list[Any]:
        return []

    wires = Wires()
    server = SfuServer(
        port=wires,
        announced=announced,
        udp_port=8443,
        connect_timeout_s=1e6,  # virtual time goes by, and nothing connects
        limits=limits,
    )
    yield Venue(server, wires)
    await server.close()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def make_receiver() -> Callable[[], Receiver]:
    return Receiver
