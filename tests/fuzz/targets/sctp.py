"""SCTP, the data channels on it, and the calls messages in these: whoever is through DTLS can send them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, cast

from rtc import calls_dc
from rtc.calls_dc import DcError, DcMessage, DcType
from rtc.dtls import DtlsTransport
from rtc.sctp import SctpTransport, dcep
from rtc.sctp import chunks as c
from rtc.sctp.association import Association
from rtc.sctp.channels import MAX_CHANNELS
from rtc.sctp.packet import HEADER_BYTES, build_packet
from tests.fuzz.loop import LOOP
from tests.fuzz.target import Target, joined, pieces

_SECOND_NS = 1_000_000_000
_PORT = 5000
_MOST_SENT = 400
"""Packets that one packet may cause: a chunk of each kind, reports, and what was waiting to go out."""
_BUFFER_BYTES = 4 << 20
"""Above what the windows allow, with what comes on top."""


class _Wire:
    """In the place of DTLS."""

    role = "server"

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send_application_data(self, data: bytes) -> None:
        self.sent.append(data)


class _Side:
    """A transport of ours, and the tag under which it takes packets."""

    def __init__(self) -> None:
        self._wire = _Wire()
        self.failures: list[str] = []
        self.channels: list[Any] = []
        self.transport = SctpTransport(
            cast(DtlsTransport, self._wire),
            on_open=self._opened,
            on_message=self._message,
            on_failed=self.failures.append,
        )
        self.transport.start(remote_port=_PORT)
        [init] = self.sent()
        self.tag = int.from_bytes(init[HEADER_BYTES + 4 : HEADER_BYTES + 8], "big")

    def sent(self) -> list[bytes]:
        sent, self._wire.sent = self._wire.sent, []
        return sent

    def _opened(self, channel: Any) -> None:
        self.channels.append(channel)
        assert len(channel.label) <= 1024

    def _message(self, channel: Any, message: bytes | str) -> None:
        data = message if isinstance(message, bytes) else message.encode()
        with contextlib.suppress(DcError):
            calls_dc.decode(data)
        channel.send(message)


def _introduce(side: _Side) -> Association:
    """An honest peer, up to an open channel: what comes then meets all that there is."""
    peer = Association(local_port=_PORT, remote_port=_PORT, tag=77, initial_tsn=1000)
    peer.connect(0)
    peer.send(2, dcep.Ppid.DCEP, dcep.build_open(calls_dc.CHANNEL_LABEL))
    for _ in range(6):
        for packet in peer.take_outgoing(0):
            side.transport.receive(packet)
        for packet in side.sent():
            peer.receive(packet, 0)
        peer.take_events()
    assert peer.established
    assert len(side.channels) == 1
    return peer


async def _receive(data: bytes) -> None:
    side = _Side()
    if data[:1] > b"\x3f":
        _introduce(side)
    try:
        for body in pieces(data[1:]):
            tag = 0 if body[:1] == b"\x01" else side.tag
            side.transport.receive(build_packet(_PORT, _PORT, tag, body))
            assert len(side.sent()) <= _MOST_SENT
        side.transport.receive(data)
        assert len(side.channels) <= 1 + MAX_CHANNELS + data.count(
            b"\x82"
        )  # closed ones may come again
        assert len(side.failures) <= 1
    finally:
        await side.transport.close()


def _late(data: bytes) -> None:
    """The same packets as time goes by: retransmissions, resets, the end."""
    association = Association(local_port=_PORT, remote_port=_PORT, tag=55, initial_tsn=5)
    peer = Association(local_port=_PORT, remote_port=_PORT, tag=77, initial_tsn=1000)
    now_ns = 0
    association.connect(now_ns)
    peer.connect(now_ns)
    for _ in range(4):
        for packet in association.take_outgoing(now_ns):
            peer.receive(packet, now_ns)
        for packet in peer.take_outgoing(now_ns):
            association.receive(packet, now_ns)
    association.send(1, dcep.Ppid.BINARY, bytes(5000))
    association.reset_stream(3)
    for body in pieces(data[1:]):
        now_ns += _SECOND_NS * (1 + len(body) % 8)
        association.tick(now_ns)
        association.receive(build_packet(_PORT, _PORT, 55, body), now_ns)
        association.take_events()
        assert len(association.take_outgoing(now_ns)) <= _MOST_SENT
        assert association.buffered_bytes <= _BUFFER_BYTES


def _run(data: bytes) -> None:
    LOOP.run_until_complete(_receive(data))
    _late(data)
    dcep.parse_open(data)
    for protocol in (*dcep.Ppid, 52):
        dcep.decode_message(protocol, data)
    with contextlib.suppress(DcError):
        message = calls_dc.decode(data)
        if message.type is DcType.SDP:
            calls_dc.unpack_sdp(message.payload)
    with contextlib.suppress(DcError):
        _, text = calls_dc.unpack_sdp(data)
        assert len(text) <= calls_dc.MAX_INFLATED_SDP_BYTES


def _data(
    tsn: int, stream: int, protocol: int, payload: bytes, flags: int = 3, ssn: int = 0
) -> bytes:
    return c.data_chunk(tsn, flags, stream, ssn, protocol, payload)


def _seeds() -> Iterable[bytes]:
    lock = calls_dc.encode(DcMessage(DcType.LOCK))
    sdp = calls_dc.encode(DcMessage(DcType.SDP, calls_dc.pack_sdp("offer", "v=0\r\n" * 9)))
    init = c.init_chunk(c.ChunkType.INIT, c.Init(77, 131072, 65535, 65535, 1000))
    yield b"\0" + joined([init])
    for first in (b"\0", b"\xff"):
        yield first + joined(
            [
                _data(1001, 2, dcep.Ppid.BINARY, lock, ssn=1)
                + _data(1002, 2, dcep.Ppid.BINARY, sdp, ssn=2),
                c.sack_chunk(6, 131072, [(8, 9)], [7]),
                _data(1005, 4, dcep.Ppid.DCEP, dcep.build_open("other")),
                c.chunk(c.ChunkType.HEARTBEAT, c.parameter(1, b"12345678")),
                c.chunk(c.ChunkType.FORWARD_TSN, (1006).to_bytes(4, "big") + b"\0\2\0\3"),
                c.chunk(
                    c.ChunkType.RE_CONFIG,
                    c.parameter(
                        13,
                        (1000).to_bytes(4, "big") + bytes(4) + (1006).to_bytes(4, "big") + b"\0\2",
                    ),
                ),
                _data(1007, 2, dcep.Ppid.TEXT, b"part one", flags=2)
                + _data(1009, 2, 51, b"end", flags=1),
                c.chunk(0x7F, b"unknown") + c.chunk(0xFE, b"unknown"),
                c.chunk(c.ChunkType.ERROR, c.parameter(3, b"1234")),
                c.chunk(c.ChunkType.SHUTDOWN, (1000).to_bytes(4, "big")),
                c.chunk(c.ChunkType.ABORT, c.parameter(12, b"why")),
            ]
        )
    yield build_packet(_PORT, _PORT, 77, init)
    yield dcep.build_open("calls-dc")
    yield lock
    yield sdp
    for kind, value in ((DcType.LOSS_RATE, 0.5), (DcType.JITTER, 3), (DcType.MEDIA_MAP, {"a": 1})):
        yield calls_dc.encode(DcMessage(kind, value))
    yield calls_dc.pack_sdp("answer", "v=0\r\n")


TARGET = Target(
    parses="SCTP packets, chunks and parameters, DCEP, calls messages (MessagePack), deflated descriptions",
    run=_run,
    seeds=_seeds,
    tokens=(
        *(bytes([kind, 0, 0]) for kind in c.ChunkType),
        *(kind.to_bytes(2, "big") for kind in c.Parameter),
        b"\x00\x0d\x00",
        b"\x00\x10\x00\x0c",
        b"\x00\x00\x03\xe9",
        b"\x00\x00\x00\x32",
        b"\xcc\x03",
    ),
    ci_inputs=1500,
)
