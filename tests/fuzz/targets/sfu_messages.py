"""What the plugin's WebSocket and a client's packets bring to a session of the SFU."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence

import msgpack

from offloader.doctor.network import rtcd_wire
from rtc.rtcp import SenderReport, build_sender_report, parse_rtcp
from rtc.rtp import build_rtp, is_rtcp, is_rtp_or_rtcp
from rtc.sdp import CodecDescription, MediaKind, Msid
from rtc.sections import RemoteMedia
from rtc.transport_cc import EXTENSION_URI
from sfu.call import Call
from sfu.capabilities import AUDIO_LEVEL, MID, RID
from sfu.descriptions import DescriptionReader
from sfu.limited_log import LimitedLog
from sfu.limits import Limits
from sfu.messages import Join, Leave, MessageError, Rtc, RtcMessage, RtcType, decode, encode
from sfu.metrics import SfuMetrics
from sfu.publishing import Publisher
from sfu.session_outbox import json_text
from tests.fuzz.target import Target, check_text, joined, pieces

_MS = 1_000_000
_MOST_ENCODINGS = 64
_EXTENSIONS = {AUDIO_LEVEL: 1, MID: 2, RID: 3, EXTENSION_URI: 5}
_AUDIO = (CodecDescription(111, "opus", 48_000, 2),)
_VIDEO = (CodecDescription(96, "VP8", 90_000), CodecDescription(45, "AV1", 90_000))


class _Silent:
    def info(self, event: str, **fields: object) -> None: ...

    warning = info


def _section(
    kind: MediaKind, mid: str, ssrcs: tuple[int, ...], rids: tuple[str, ...] = ()
) -> RemoteMedia:
    codecs = _AUDIO if kind == "audio" else _VIDEO
    return RemoteMedia(mid, kind, Msid(f"stream{mid}", f"t{mid}"), ssrcs, rids, codecs, _EXTENSIONS)


_SECTIONS = [
    _section("audio", "0", (1,)),
    _section("video", "1", (), ("l", "h")),
    _section("audio", "2", ()),
    _section("video", "3", (4, 5), ("l", "h")),
]


class _Session:
    """The parts of a session that read what comes; sound and layers go nowhere, but all is decided."""

    def __init__(self) -> None:
        self._now_ns = 10**12
        self.metrics = SfuMetrics()
        limits = Limits()
        call = Call()
        call.start_screen("session", "stream1")
        self._publisher = Publisher(
            session_id="session",
            group_id="group",
            call=call,
            send_rtcp=_check_rtcp,
            voice_changed=lambda active: None,
            metrics=self.metrics,
            history_packets=16,
            limits=limits,
        )
        self._publisher.video_stream_id = "stream3"
        log = LimitedLog(_Silent())
        self._descriptions = DescriptionReader(
            limits, self.metrics, "group", log, now_ns=self._now_ns
        )
        self._publisher.announced(_SECTIONS)

    def message(self, data: bytes) -> None:
        try:
            message = decode(data)
        except MessageError as error:
            check_text(error, len(data) * 12 + 100)
            return
        assert decode(encode(message)) == message
        if isinstance(message, Rtc):
            inner = message.message
            for key in ("candidate", "screenStreamID", "videoStreamID"):
                json_text(inner.data, key)
            for over_channel in (False, True):
                self._descriptions.read(inner.data, over_channel=over_channel, now_ns=self._now_ns)

    def packet(self, packet: bytes) -> None:
        if is_rtcp(packet):
            for report in parse_rtcp(packet):
                if isinstance(report, SenderReport):
                    self._publisher.sender_report(report, self._now_ns, self._now_ns)
        else:
            self._publisher.rtp_received(packet, self._now_ns)
        self._now_ns += (1, 20, 100, 400, 3000)[len(packet) % 5] * _MS
        if len(packet) & 3 == 3:
            self._publisher.tick(self._now_ns)
            self._publisher.report(self._now_ns)
        elif len(packet) & 63 == 62:
            self._publisher.set_voice_enabled(bool(len(packet) & 64))
            self._publisher.announced(_SECTIONS[: len(packet) >> 7])
        assert len(self._publisher._encodings) <= _MOST_ENCODINGS
        assert len(self._publisher._undecided) <= len(_SECTIONS)

    def close(self) -> None:
        self._publisher.tick(self._now_ns)
        self._publisher.report(self._now_ns)
        self._publisher.close()


def _check_rtcp(packet: bytes) -> None:
    assert len(packet) <= 1500
    assert list(parse_rtcp(packet))


def _run(data: bytes) -> None:
    session = _Session()
    session.message(data)
    for message in pieces(data):
        if is_rtp_or_rtcp(message):
            session.packet(message)
        else:
            session.message(message)
    session.close()
    rtcd_wire.unpacked(data)
    rtcd_wire.json_mapping(data)
    with contextlib.suppress(UnicodeDecodeError):
        rtcd_wire.unpacked(data.decode())
        rtcd_wire.sdp_value(data.decode(), "ice-ufrag")


def _media(
    ssrc: int, payload_type: int, extensions: Sequence[tuple[int, bytes]], first: bytes
) -> list[bytes]:
    return [
        build_rtp(
            first + bytes([number]) * (9 + number),
            payload_type=payload_type,
            sequence=65533 + 2 * number,
            timestamp=number * 960,
            ssrc=ssrc,
            marker=True,
            extensions=(*extensions, (5, number.to_bytes(2, "big"))),
        )
        for number in range(6)
    ]


def _seeds() -> Iterable[bytes]:
    offer = json.dumps({"type": "offer", "sdp": "v=0\r\n"}).encode()
    rtc = [
        encode(Rtc(RtcMessage(kind, "session", data)))
        for kind, data in (
            (RtcType.SDP, offer),
            (RtcType.ICE, b'{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host"}'),
            (RtcType.SCREEN_ON, b'{"screenStreamID":"stream1"}'),
            (RtcType.MUTE, b""),
        )
    ]
    join = encode(Join("call", "user", "session", "channel", True, True))
    yield join
    yield from rtc
    yield encode(Leave("session"))
    yield msgpack.packb("rtc") + msgpack.packb(["g", "u", "s", "c", 2, b"data"])
    yield msgpack.packb("join") + msgpack.packb({"callID": None, 3: msgpack.Timestamp(1, 2)})
    yield joined([join, *rtc])
    yield joined(_media(1, 111, ((1, b"\x20"),), b"\x78"))
    layers = [
        packet
        for pair in zip(
            _media(20, 96, ((2, b"1"), (3, b"l")), b"\x90\x80\x01\x00"),
            _media(21, 96, ((2, b"1"), (3, b"h")), b"\x90\xf0\x81\x01\x02\x23\x00"),
            strict=True,
        )
        for packet in pair
    ]
    yield joined(layers)
    yield joined(_media(4, 45, (), b"\x28") + _media(30, 111, ((2, b"2"),), b"\x78"))
    report = build_sender_report(ssrc=1, ntp=1 << 60, rtp_timestamp=960, packets=3, octets=4)
    yield joined([*_media(1, 111, ((1, b"\xff"),), b"\x78"), report, report[:20], *layers[:2]])


TARGET = Target(
    parses="the SFU's WebSocket messages (MessagePack), signals of sessions, a publisher's RTP and RTCP",
    run=_run,
    seeds=_seeds,
    tokens=(
        *(
            msgpack.packb(word)
            for word in ("rtc", "join", "leave", "reconnect", "close", "vad", "hello")
        ),
        *(
            msgpack.packb(word)
            for word in ("sessionID", "session_id", "type", "data", "callID", "av1Support")
        ),
        b'{"type":"offer","sdp":"',
        b"\x90\xef",
        b"\x90\xe0",
        b"\xbe\xde\x00\x02",
        b"\x10\x00\x00\x02",
        b"\x80\xc8\x00\x06",
        b"\x211\x30l",
        b"\xc1",
        b"\xc7\x04\xff",
        b"\xdf\xff\xff\xff\xff",
    ),
    max_bytes=6144,
    ci_inputs=3000,
)
