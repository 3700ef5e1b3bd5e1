"""RTCP on bytes (RFC 3550 section 6, RFC 4585, RFC 5104): read what a peer sent, build what we send.

Sources: SR, RR, SDES and BYE are RFC 3550 section 6.4 to 6.6; NACK and PLI RFC 4585 section 6; FIR
RFC 5104 section 4.3.1; REMB draft-alvestrand-rmcat-remb-03; transport-cc see `rtc.transport_cc`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
GOODBYE = 203
TRANSPORT_FEEDBACK = 205
PAYLOAD_FEEDBACK = 206
FORMAT_NACK = 1
FORMAT_TRANSPORT_CC = 15
FORMAT_PLI = 1
FORMAT_FIR = 4
FORMAT_APPLICATION = 15
MAX_NACK_SEQUENCES = 1024
"""More in one NACK are not read: a datagram of 1400 bytes could name 5,900."""
MAX_REPORT_BLOCKS = 31
_CNAME = 1


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one SSRC (RFC 3550 section 6.4.1)."""

    ssrc: int
    fraction_lost: int
    """0–255 of 256, since the report before."""
    packets_lost: int
    """Since the start; below 0 when there were more duplicates than losses."""
    highest_sequence: int
    """32 bits: cycles and sequence number."""
    jitter_ticks: int
    last_sender_report: int = 0
    """Middle 32 bits of the NTP time of the newest SR; 0 before the first."""
    delay_ticks: int = 0
    """Since that SR came, in 1/65536 s."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """One moment on two clocks, and how much was sent until then."""

    ssrc: int
    ntp: int
    """64-bit NTP time."""
    rtp_timestamp: int
    packets: int = 0
    octets: int = 0
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    ssrc: int
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceName:
    """The CNAME item of one chunk of an SDES."""

    ssrc: int
    cname: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """These sources have ended."""

    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """Generic NACK (RFC 4585 section 6.2.1): these packets did not arrive."""

    sender_ssrc: int
    media_ssrc: int
    sequences: tuple[int, ...]
    """At most MAX_NACK_SEQUENCES, as sent: hostile ones may repeat."""


@dataclass(frozen=True, slots=True)
class KeyFrameRequest:
    """PLI or FIR (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1)."""

    sender_ssrc: int
    media_ssrc: int
    command: int | None = None
    """FIR only: the same number again is the same command repeated."""


@dataclass(frozen=True, slots=True)
class ReceiverEstimate:
    """REMB: the bit rate that a receiver believes it can take for these sources together."""

    sender_ssrc: int
    bitrate_bps: int
    ssrcs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """Transport-wide congestion control; `rtc.transport_cc.parse_feedback` reads the body."""

    sender_ssrc: int
    media_ssrc: int
    body: bytes


RtcpMessage = (
    SenderReport
    | ReceiverReport
    | SourceName
    | Goodbye
    | Nack
    | KeyFrameRequest
    | ReceiverEstimate
    | TransportFeedback
)


def parse_rtcp(compound: bytes) -> Iterator[RtcpMessage]:
    """The messages of a compound or reduced-size (RFC 5506) packet, in order. Never raises.

    Packets of unknown type and those whose inside is broken are skipped; a broken length or version
    ends the reading, because nothing after it can be found.
    """
    position, size = 0, len(compound)
    while position + 4 <= size:
        first, kind, words = struct.unpack_from("!BBH", compound, position)
        end = position + 4 + 4 * words
        if first >> 6 != 2 or end > size:
            return
        body = compound[position + 4 : end]
        if first & 0x20:  # padding: on the last packet only (RFC 3550 section 6.4.1)
            if end != size or not body or not 0 < body[-1] <= len(body):
                return
            body = body[: -body[-1]]
        position = end
        reader = _READERS.get(kind)
        if reader is not None:
            yield from reader(first & 0x1F, body)


def _read_sender_report(count: int, body: bytes) -> Iterator[RtcpMessage]:
    if len(body) >= 24 + 24 * count:
        ssrc, ntp, rtp_timestamp, packets, octets = struct.unpack_from("!IQIII", body)
        reports = _report_blocks(body, 24, count)
        yield SenderReport(ssrc, ntp, rtp_timestamp, packets, octets, reports)


def _read_receiver_report(count: int, body: bytes) -> Iterator[RtcpMessage]:
    if len(body) >= 4 + 24 * count:
        yield ReceiverReport(int.from_bytes(body[:4]), _report_blocks(body, 4, count))


def _report_blocks(body: bytes, start: int, count: int) -> tuple[ReportBlock, ...]:
    blocks = []
    for ssrc, lost, highest, jitter, last, delay in struct.iter_unpack(
        "!IIIIII", body[start : start + 24 * count]
    ):
        total = lost & 0xFFFFFF
        total -= (total >> 23) << 24  # 24 bits with a sign
        blocks.append(ReportBlock(ssrc, lost >> 24, total, highest, jitter, last, delay))
    return tuple(blocks)


def _read_source_description(count: int, body: bytes) -> Iterator[RtcpMessage]:
    position = 0
    for _ in range(count):
        if position + 4 > len(body):
            return
        ssrc = int.from_bytes(body[position : position + 4])
        position += 4
        while position < len(body) and body[position] != 0:
            end = position + 2 + (body[position + 1] if position + 1 < len(body) else 0)
            if position + 2 > len(body) or end > len(body):
                return
            if body[position] == _CNAME:
                yield SourceName(ssrc, body[position + 2 : end].decode("utf-8", "replace"))
            position = end
        position += 4 - position % 4  # at least one null byte ends the chunk


def _read_goodbye(count: int, body: bytes) -> Iterator[RtcpMessage]:
    if len(body) >= 4 * count:
        yield Goodbye(struct.unpack_from(f"!{count}I", body))


def _read_transport_feedback(format_: int, body: bytes) -> Iterator[RtcpMessage]:
    if len(body) < 8:
        return
    sender_ssrc, media_ssrc = struct.unpack_from("!II", body)
    if format_ == FORMAT_TRANSPORT_CC:
        yield TransportFeedback(sender_ssrc, media_ssrc, body[8:])
    elif format_ == FORMAT_NACK:
        yield Nack(sender_ssrc, media_ssrc, tuple(_nack_sequences(body)))


def _nack_sequences(body: bytes) -> list[int]:
    lost: list[int] = []
    for packet_id, bitmask in struct.iter_unpack("!HH", body[8 : len(body) & ~3]):
        lost.append(packet_id)
        if bitmask:
            lost += [(packet_id + bit + 1) & 0xFFFF for bit in range(16) if bitmask >> bit & 1]
        if len(lost) >= MAX_NACK_SEQUENCES:
            return lost[:MAX_NACK_SEQUENCES]
    return lost


def _read_payload_feedback(format_: int, body: bytes) -> Iterator[RtcpMessage]:
    if len(body) < 8:
        return
    sender_ssrc, media_ssrc = struct.unpack_from("!II", body)
    if format_ == FORMAT_PLI:
        yield KeyFrameRequest(sender_ssrc, media_ssrc)
    elif format_ == FORMAT_FIR:
        for ssrc, command in struct.iter_unpack("!IB3x", body[8 : 8 + (len(body) - 8) // 8 * 8]):
            yield KeyFrameRequest(sender_ssrc, ssrc, command)
    elif format_ == FORMAT_APPLICATION and body[8:12] == b"REMB" and len(body) >= 16:
        count = body[12]
        if len(body) >= 16 + 4 * count:
            exponent = body[13] >> 2
            mantissa = (body[13] & 3) << 16 | body[14] << 8 | body[15]
            ssrcs = struct.unpack_from(f"!{count}I", body, 16)
            yield ReceiverEstimate(sender_ssrc, mantissa << exponent, ssrcs)


_READERS = {
    SENDER_REPORT: _read_sender_report,
    RECEIVER_REPORT: _read_receiver_report,
    SOURCE_DESCRIPTION: _read_source_description,
    GOODBYE: _read_goodbye,
    TRANSPORT_FEEDBACK: _read_transport_feedback,
    PAYLOAD_FEEDBACK: _read_payload_feedback,
}


def build_sender_report(
    *,
    ssrc: int,
    ntp: int,
    rtp_timestamp: int,
    packets: int,
    octets: int,
    blocks: Sequence[ReportBlock] = (),
) -> bytes:
    """An SR that ties `rtp_timestamp` to the 64-bit `ntp`; counters are taken modulo 2**32.

    The first MAX_REPORT_BLOCKS blocks are used, further ones belong into a receiver report.
    """
    body = struct.pack(
        "!IQIII",
        ssrc,
        ntp,
        rtp_timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    return _packet(SENDER_REPORT, *_pack_blocks(body, blocks))


def build_receiver_report(*, ssrc: int, blocks: Sequence[ReportBlock] = ()) -> bytes:
    """An RR for the first MAX_REPORT_BLOCKS sources."""
    return _packet(RECEIVER_REPORT, *_pack_blocks(struct.pack("!I", ssrc), blocks))


def build_source_name(*, ssrc: int, cname: str) -> bytes:
    """An SDES with the CNAME; a full compound packet has one after its report (section 6.1).

    Raises:
        ValueError: the name is longer than 255 bytes.
    """
    name = cname.encode()
    if len(name) > 255:
        raise ValueError(f"cname has {len(name)} bytes; wanted at most 255")
    chunk = struct.pack("!IBB", ssrc, _CNAME, len(name)) + name
    return _packet(SOURCE_DESCRIPTION, 1, chunk + bytes(4 - len(chunk) % 4))


def build_goodbye(*, ssrcs: Sequence[int]) -> bytes:
    """A BYE for up to 31 sources."""
    return _packet(GOODBYE, len(ssrcs[:31]), struct.pack(f"!{len(ssrcs[:31])}I", *ssrcs[:31]))


def build_nack(*, sender_ssrc: int, media_ssrc: int, sequences: Iterable[int]) -> bytes:
    """A generic NACK for the given 16-bit sequence numbers, ascending in sequence order; not none."""
    items: list[tuple[int, int]] = []
    for sequence in sequences:
        if items and 0 < ((sequence - items[-1][0]) & 0xFFFF) <= 16:
            first, mask = items[-1]
            items[-1] = (first, mask | 1 << (((sequence - first) & 0xFFFF) - 1))
        else:
            items.append((sequence & 0xFFFF, 0))
    body = struct.pack("!II", sender_ssrc, media_ssrc)
    body += b"".join(struct.pack("!HH", first, mask) for first, mask in items)
    return _packet(TRANSPORT_FEEDBACK, FORMAT_NACK, body)


def build_pli(*, sender_ssrc: int, media_ssrc: int) -> bytes:
    """Picture loss indication: please send a key frame."""
    return _packet(PAYLOAD_FEEDBACK, FORMAT_PLI, struct.pack("!II", sender_ssrc, media_ssrc))


def build_transport_feedback(*, sender_ssrc: int, media_ssrc: int, body: bytes) -> bytes:
    """`body` as `rtc.transport_cc` writes it, any length: it is filled up to whole words."""
    header = struct.pack("!II", sender_ssrc, media_ssrc)
    fill = -len(body) % 4
    packet = _packet(TRANSPORT_FEEDBACK, FORMAT_TRANSPORT_CC, header + body + bytes(fill))
    if not fill:
        return packet
    return bytes([packet[0] | 0x20]) + packet[1:-1] + bytes([fill])


def _pack_blocks(body: bytes, blocks: Sequence[ReportBlock]) -> tuple[int, bytes]:
    used = blocks[:MAX_REPORT_BLOCKS]
    return len(used), body + b"".join(
        struct.pack(
            "!IIIIII",
            block.ssrc,
            (block.fraction_lost & 0xFF) << 24 | block.packets_lost & 0xFFFFFF,
            block.highest_sequence & 0xFFFFFFFF,
            block.jitter_ticks & 0xFFFFFFFF,
            block.last_sender_report,
            block.delay_ticks & 0xFFFFFFFF,
        )
        for block in used
    )


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body
