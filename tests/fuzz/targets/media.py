"""Media as jobs receive it: jitter buffer, clocks, depacketizers of Opus, VP8 and AV1, RTCP of the SFU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from callclient.events import TrackAdded
from callclient.receive.av1 import write_leb128
from callclient.receive.frames import MAX_FRAME_BYTES
from callclient.receive.latency import RECORDING
from callclient.receive.opus_decoder import OpusDecoder, OpusError
from callclient.receive.receiving import Receiving
from callclient.receive.tracks import EncodedFrame
from rtc import opus, vp8
from rtc.rtcp import SenderReport, build_sender_report, parse_rtcp
from rtc.rtp import build_rtp, is_rtcp
from rtc.sdp import CodecDescription, MediaKind, Msid
from rtc.sections import RemoteMedia
from rtc.transport_cc import EXTENSION_URI
from tests.fuzz.target import Target, joined, pieces

_MS = 1_000_000
_RATE_HZ = 16_000
_MID, _LEVEL = "urn:ietf:params:rtp-hdrext:sdes:mid", "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_EXTENSIONS = {_LEVEL: 1, _MID: 2, EXTENSION_URI: 5}
_OPUS = CodecDescription(111, "opus", 48_000, 2)
_VIDEO = (
    CodecDescription(96, "VP8", 90_000, feedback=("nack",)),
    CodecDescription(45, "AV1", 90_000, feedback=("nack",)),
)
_MOST_FRAMES = 1024


def _section(kind: MediaKind, mid: str, source: str, ssrcs: tuple[int, ...]) -> RemoteMedia:
    codecs = (_OPUS,) if kind == "audio" else _VIDEO
    return RemoteMedia(
        mid, kind, Msid("s", f"{source}_session_{mid}"), ssrcs, (), codecs, _EXTENSIONS
    )


_SECTIONS = [
    _section("audio", "0", "voice", (1,)),
    _section("video", "1", "screen", (2,)),
    _section("video", "2", "video", ()),
    _section("audio", "3", "screen-audio", (4,)),
]


def _run(data: bytes) -> None:
    events: list[Any] = []
    receiving = Receiving(
        own_session_id="own",
        budget=RECORDING,
        send_rtcp=lambda packet: None if len(packet) <= 1500 else _too_long(packet),
        emit=events.append,
        rtt_s=lambda: 0.05,
    )
    now_ns = 10**12
    receiving.announced(_SECTIONS, now_ns)
    for packet in pieces(data):
        if len(packet) > 1 and is_rtcp(packet):
            for message in parse_rtcp(packet):
                if isinstance(message, SenderReport):
                    receiving.sender_report_received(message, now_ns)
        elif packet:
            receiving.rtp_received(packet, now_ns)
        now_ns += (1, 5, 20, 20, 90, 900, 2100, 30_000)[len(packet) & 7] * _MS
        receiving.tick(now_ns)
        if len(packet) & 15 == 15:
            receiving.announced(_SECTIONS[: len(packet) >> 4 & 3], now_ns)
    receiving.report(now_ns)
    tracks = [event.track for event in events if isinstance(event, TrackAdded)]
    receiving.close()
    for track in tracks:
        _check(track)
    opus.packet_samples(data)
    opus.has_redundancy(data)


def _check(track: Any) -> None:
    last_ns = 0
    frames = 0
    decoder = OpusDecoder(_RATE_HZ)
    while (frame := track._frames.receive_nowait()) is not None:
        frames += 1
        assert 0 < len(frame.payload) <= MAX_FRAME_BYTES * 2
        assert frame.time_ns >= last_ns
        assert 0 <= frame.duration_ns <= 120 * _MS
        assert frame.lost_before >= 0
        assert frame.lost_ns >= 0
        last_ns = frame.time_ns
        if track.source.is_audio:
            _decode(decoder, frame)
    assert frames <= 4 * _MOST_FRAMES


def _decode(decoder: OpusDecoder, frame: EncodedFrame) -> None:
    """As jobs do: what was lost first, then the packet."""
    lost = frame.lost_ns * _RATE_HZ // 1_000_000_000
    with contextlib.suppress(OpusError):
        filled = decoder.fill(frame.payload, lost, repairs=frame.repairs_loss)
        assert len(filled) <= 4 * lost
        assert len(decoder.decode(frame.payload)) <= 4 * _RATE_HZ * 120 // 1000


def _too_long(packet: bytes) -> None:
    raise AssertionError(f"RTCP of {len(packet)} bytes")


def _packets(payloads: Iterable[bytes], payload_type: int, ssrc: int, step: int) -> list[bytes]:
    return [
        build_rtp(
            payload,
            payload_type=payload_type,
            sequence=65533 + number,
            timestamp=0xFFFFF000 + number * step,
            ssrc=ssrc,
            marker=True,
            extensions=((1, b"\x30"), (2, b"2"), (5, number.to_bytes(2, "big"))),
        )
        for number, payload in enumerate(payloads)
    ]


def _obu(kind: int, content: bytes) -> bytes:
    return bytes([kind << 3]) + content


def _seeds() -> Iterable[bytes]:
    yield joined(_packets([b"\x78" + bytes(20)] * 6, 111, 1, 960))
    mixed = [
        b"\x08\xff\x01",
        b"\x0b\xc3\x02\x01\x02\x03",
        b"\x79\x00",
        b"\x7b\x41\x02\0\0\0",
        b"",
        b"\x03",
    ]
    yield joined(_packets(mixed, 111, 1, 960))
    frame = b"\x10\x02\x00\x9d\x01\x2a\x10\x00\x10\x00" + bytes(1500)
    pictures = [p for number in range(3) for p in vp8.packetize(frame, picture_id=0x7FFF + number)]
    yield joined(_packets(pictures, 96, 2, 1500))
    header, key, delta = (
        _obu(1, b"\0\0\0\4"),
        _obu(6, b"\x10" + bytes(30)),
        _obu(6, b"\x30" + bytes(9)),
    )
    whole = b"\x28" + write_leb128(len(header)) + header + key
    yield joined(
        _packets([whole, b"\x18" + delta, b"\x50" + delta, b"\x90" + bytes(9)], 45, 2, 3000)
    )
    many = b"\x00" + (write_leb128(len(delta)) + delta) * 3
    yield joined(
        _packets([whole, many, b"\x20" + b"\x03" + _obu(2, b"\0\0") + delta], 45, 99, 3000)
    )
    report = build_sender_report(ssrc=1, ntp=1 << 60, rtp_timestamp=960, packets=3, octets=4)
    packets = _packets([b"\x78" + bytes(20)] * 8, 111, 1, 960)
    yield joined([*packets[:2], report, packets[5], packets[4], packets[7], packets[7], report])


TARGET = Target(
    parses="received media: jitter buffer, clocks, Opus (libopus too), VP8 and AV1 depacketizers",
    run=_run,
    seeds=_seeds,
    tokens=(
        b"\x90\x6f",
        b"\x90\x60",
        b"\x90\xe0",
        b"\x90\xad",
        b"\x00\x00\x00\x01",
        b"\x00\x00\x00\x02",
        b"\x00\x00\x00\x63",
        b"\xbe\xde\x00\x02",
        b"\x80\xc8\x00\x06",
        b"\x10\x02",
    ),
    max_bytes=6144,
    ci_inputs=700,
)
