"""RTP and RTCP on bytes (RFC 3550, 4585, 8285): read and rewrite without an object for each packet.

Wrap-around arithmetic has its one home here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

RTP_HEADER_BYTES = 12
RTCP_SR = 200
RTCP_RR = 201
RTCP_SDES = 202
RTCP_BYE = 203
RTCP_RTPFB = 205
RTCP_PSFB = 206
RTPFB_NACK = 1
PSFB_PLI = 1
PSFB_FIR = 4
_NTP_EPOCH_OFFSET_S = 2_208_988_800


def is_rtcp(packet: bytes) -> bool:
    """Tell RTCP from RTP on one port (RFC 5761 section 4)."""
    return len(packet) >= 2 and 192 <= packet[1] <= 223


def is_rtp_or_rtcp(datagram: bytes) -> bool:
    """By the first byte (RFC 7983 section 7)."""
    return len(datagram) >= 8 and 128 <= datagram[0] <= 191


def sequence_newer(a: int, b: int) -> bool:
    """Is 16-bit sequence number `a` after `b`, wrap-around considered (RFC 1982)?"""
    return a != b and ((a - b) & 0xFFFF) < 0x8000


class Unwrapper:
    """Turns wrapping counters of `bits` into ever-growing ones; tolerates reordering."""

    __slots__ = ("_half", "_last", "_modulus")

    def __init__(self, bits: int) -> None:
        self._modulus = 1 << bits
        self._half = self._modulus >> 1
        self._last: int | None = None

    def unwrap(self, value: int) -> int:
        """The unwrapped counter; nearest to the newest one seen."""
        if self._last is None:
            self._last = value
            return value
        delta = (value - self._last) % self._modulus
        if delta >= self._half:
            delta -= self._modulus
        unwrapped = self._last + delta
        self._last = max(self._last, unwrapped)
        return unwrapped


@dataclass(frozen=True, slots=True)
class RtpHeader:
    """Fixed header and where the payload is (RFC 3550 section 5.1)."""

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload_start: int
    payload_end: int
    """Padding left out."""


def parse_rtp(packet: bytes) -> RtpHeader | None:
    """Read a packet's header; None when it is malformed."""
    length = len(packet)
    if length < RTP_HEADER_BYTES or packet[0] >> 6 != 2:
        return None
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", packet)
    start = RTP_HEADER_BYTES + 4 * (first & 0x0F)
    if first & 0x10:
        if length < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4])
    end = length
    if first & 0x20:
        padding = packet[-1]
        if padding == 0:
            return None
        end -= padding
    if start > end:
        return None
    return RtpHeader(bool(second & 0x80), second & 0x7F, sequence, timestamp, ssrc, start, end)


def header_extension(packet: bytes, extension_id: int) -> bytes | None:
    """The value of one header extension element, one-byte or two-byte form (RFC 8285)."""
    if len(packet) < RTP_HEADER_BYTES or not packet[0] & 0x10:
        return None
    position = RTP_HEADER_BYTES + 4 * (packet[0] & 0x0F)
    if len(packet) < position + 4:
        return None
    profile, words = struct.unpack_from("!HH", packet, position)
    position += 4
    end = min(position + 4 * words, len(packet))
    two_byte = profile & 0xFFF0 == 0x1000
    if not two_byte and profile != 0xBEDE:
        return None
    while position < end:
        first = packet[position]
        if first == 0:
            position += 1
            continue
        if two_byte:
            if position + 1 >= end:
                return None
            element, size, position = first, packet[position + 1], position + 2
        else:
            element, size, position = first >> 4, (first & 0x0F) + 1, position + 1
            if element == 15:
                return None
        if position + size > end:
            return None
        if element == extension_id:
            return packet[position : position + size]
        position += size
    return None


def build_rtp(
    payload: bytes,
    *,
    payload_type: int,
    sequence: int,
    timestamp: int,
    ssrc: int,
    marker: bool = False,
    extensions: tuple[tuple[int, bytes], ...] = (),
) -> bytes:
    """A packet with one-byte header extensions (ids 1–14, values of 1–16 bytes)."""
    first = 0x80
    block = b""
    if extensions:
        first |= 0x10
        body = b"".join(bytes([number << 4 | len(v) - 1]) + v for number, v in extensions)
        body += bytes(-len(body) % 4)
        block = struct.pack("!HH", 0xBEDE, len(body) // 4) + body
    header = struct.pack(
        "!BBHII",
        first,
        (0x80 if marker else 0) | payload_type,
        sequence & 0xFFFF,
        timestamp & 0xFFFFFFFF,
        ssrc,
    )
    return header + block + payload


def rewrite_rtp(packet: bytes, header: RtpHeader, *, ssrc: int, payload_type: int) -> bytes:
    """The same media under another SSRC and payload type, without extensions, CSRCs and padding.

    What an SFU sends: sequence number, timestamp and marker pass through.
    """
    return (
        struct.pack(
            "!BBHII",
            0x80,
            (0x80 if header.marker else 0) | payload_type,
            header.sequence,
            header.timestamp,
            ssrc,
        )
        + packet[header.payload_start : header.payload_end]
    )


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says of one SSRC (RFC 3550 section 6.4.1)."""

    ssrc: int
    fraction_lost: int
    """0–255 of 256."""
    packets_lost: int
    highest_sequence: int
    jitter_ticks: int


@dataclass(frozen=True, slots=True)
class SenderReport:
    """RTCP SR: one moment on two clocks."""

    ssrc: int
    ntp: int
    """64-bit NTP time."""
    rtp_timestamp: int
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    ssrc: int
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class Nack:
    """Generic NACK (RFC 4585 section 6.2.1): these packets did not arrive."""

    sender_ssrc: int
    media_ssrc: int
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyFrameRequest:
    """PLI or FIR (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1)."""

    sender_ssrc: int
    media_ssrc: int


RtcpMessage = SenderReport | ReceiverReport | Nack | KeyFrameRequest


def parse_rtcp(compound: bytes) -> Iterator[RtcpMessage]:
    """The messages of a compound packet that somebody here acts on; others and broken ones are skipped."""
    position = 0
    while position + 4 <= len(compound):
        first, kind, words = struct.unpack_from("!BBH", compound, position)
        end = position + 4 + 4 * words
        if first >> 6 != 2 or end > len(compound):
            return
        message = _parse_rtcp_one(kind, first & 0x1F, compound[position + 4 : end])
        if message is not None:
            yield message
        position = end


def _parse_rtcp_one(kind: int, count: int, body: bytes) -> RtcpMessage | None:
    if kind == RTCP_SR and len(body) >= 24 + 24 * count:
        ssrc, ntp, rtp_timestamp = struct.unpack_from("!IQI", body)
        return SenderReport(ssrc, ntp, rtp_timestamp, _report_blocks(body[24:], count))
    if kind == RTCP_RR and len(body) >= 4 + 24 * count:
        (ssrc,) = struct.unpack_from("!I", body)
        return ReceiverReport(ssrc, _report_blocks(body[4:], count))
    if kind not in (RTCP_RTPFB, RTCP_PSFB) or len(body) < 8:
        return None
    sender_ssrc, media_ssrc = struct.unpack_from("!II", body)
    if kind == RTCP_RTPFB and count == RTPFB_NACK:
        lost: list[int] = []
        for packet_id, bitmask in struct.iter_unpack("!HH", body[8 : 8 + (len(body) - 8) // 4 * 4]):
            lost.append(packet_id)
            lost += [(packet_id + bit + 1) & 0xFFFF for bit in range(16) if bitmask >> bit & 1]
        return Nack(sender_ssrc, media_ssrc, tuple(lost))
    if kind == RTCP_PSFB and count == PSFB_PLI:
        return KeyFrameRequest(sender_ssrc, media_ssrc)
    if kind == RTCP_PSFB and count == PSFB_FIR and len(body) >= 16:
        return KeyFrameRequest(sender_ssrc, struct.unpack_from("!I", body, 8)[0])
    return None


def _report_blocks(data: bytes, count: int) -> tuple[ReportBlock, ...]:
    blocks = []
    for index in range(count):
        ssrc, lost, highest, jitter, _, _ = struct.unpack_from("!IIIIII", data, 24 * index)
        total = lost & 0xFFFFFF
        blocks.append(
            ReportBlock(ssrc, lost >> 24, total - (1 << 24) * (total >> 23), highest, jitter)
        )
    return tuple(blocks)


def build_nack(*, sender_ssrc: int, media_ssrc: int, sequences: list[int]) -> bytes:
    """A generic NACK for the given 16-bit sequence numbers, ascending in sequence order."""
    items: list[tuple[int, int]] = []
    for sequence in sequences:
        if items and 0 < ((sequence - items[-1][0]) & 0xFFFF) <= 16:
            first, mask = items[-1]
            items[-1] = (first, mask | 1 << (((sequence - first) & 0xFFFF) - 1))
        else:
            items.append((sequence & 0xFFFF, 0))
    body = struct.pack("!II", sender_ssrc, media_ssrc)
    body += b"".join(struct.pack("!HH", first, mask) for first, mask in items)
    return _rtcp(RTCP_RTPFB, RTPFB_NACK, body)


def build_pli(*, sender_ssrc: int, media_ssrc: int) -> bytes:
    """Picture loss indication: please send a key frame."""
    return _rtcp(RTCP_PSFB, PSFB_PLI, struct.pack("!II", sender_ssrc, media_ssrc))


def build_receiver_report(*, ssrc: int, blocks: list[ReportBlock]) -> bytes:
    """An RR for up to 31 sources."""
    body = struct.pack("!I", ssrc) + b"".join(_pack_block(block) for block in blocks[:31])
    return _rtcp(RTCP_RR, min(len(blocks), 31), body)


def build_sender_report(
    *, ssrc: int, unix_time_ns: int, rtp_timestamp: int, packets: int, octets: int
) -> bytes:
    """An SR that ties `rtp_timestamp` to wall time."""
    seconds, nanoseconds = divmod(unix_time_ns, 1_000_000_000)
    ntp = (seconds + _NTP_EPOCH_OFFSET_S) << 32 | (nanoseconds << 32) // 1_000_000_000
    body = struct.pack(
        "!IQIII",
        ssrc,
        ntp,
        rtp_timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        octets & 0xFFFFFFFF,
    )
    return _rtcp(RTCP_SR, 0, body)


def _pack_block(block: ReportBlock) -> bytes:
    lost = (block.fraction_lost & 0xFF) << 24 | block.packets_lost & 0xFFFFFF
    return struct.pack(
        "!IIIIII", block.ssrc, lost, block.highest_sequence & 0xFFFFFFFF, block.jitter_ticks, 0, 0
    )


def _rtcp(kind: int, count: int, body: bytes) -> bytes:
    return struct.pack("!BBH", 0x80 | count, kind, len(body) // 4) + body
