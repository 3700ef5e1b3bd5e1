"""RTP on bytes (RFC 3550, 8285): read and rewrite without an object for each packet; RTCP is `rtc.rtcp`.

Wrap-around arithmetic has its one home here.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

RTP_HEADER_BYTES = 12


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


class RtpHeader(NamedTuple):
    """Fixed header and where the payload is (RFC 3550 section 5.1).

    A tuple because one is made for each packet: that takes a third of the time of a frozen dataclass.
    """

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


def level_and_number(
    packet: bytes, position: int, end: int, level_id: int, number_id: int
) -> tuple[int, int]:
    """Audio level byte and transport-wide number from the one-byte elements at packet[position:end].

    -1 for what is not there. For the hot path: one pass for both. Raises IndexError when cut off.
    """
    level = number = -1
    while position < end:
        byte = packet[position]
        if byte == 0:
            position += 1
            continue
        element = byte >> 4
        if element == level_id:
            level = packet[position + 1]
        elif element == number_id:
            number = packet[position + 1] << 8 | packet[position + 2]
        elif element == 15:
            break
        position += 2 + (byte & 15)
    return level, number
