"""RTP and RTCP as the original handles them, on bytes (rtcd.md 3.4, 3.8)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rtc.rtp import RTP_HEADER_BYTES, RtpHeader

_ONE_BYTE_PROFILE = 0xBEDE
_TWO_BYTE_PROFILE = 0x1000
RTCP_FEEDBACK = 205
RTCP_PAYLOAD_FEEDBACK = 206
NACK = 1
TRANSPORT_CC = 15
PLI = 1


def readdressed(packet: bytes, *, ssrc: int, payload_type: int) -> bytes:
    """The same packet under another SSRC and payload type; everything else passes, extensions too."""
    second = packet[1] & 0x80 | payload_type
    return packet[:1] + bytes([second]) + packet[2:8] + struct.pack("!I", ssrc) + packet[12:]


def without_extensions(packet: bytes, header: RtpHeader) -> bytes:
    """Fixed header and payload."""
    first = packet[0] & ~0x1F & 0xFF | 0x80
    body = packet[header.payload_start : header.payload_end]
    return bytes([first & ~0x20]) + packet[1:RTP_HEADER_BYTES] + body


def with_extension(packet: bytes, number: int, value: bytes) -> bytes:
    """Set one header extension element; one of the same id is overwritten, others stay (RFC 8285)."""
    start = RTP_HEADER_BYTES + 4 * (packet[0] & 0x0F)
    elements: dict[int, bytes] = {}
    rest = packet[start:]
    if packet[0] & 0x10:
        _, words = struct.unpack_from("!HH", packet, start)
        elements = dict(extension_elements(packet))
        rest = packet[start + 4 + 4 * words :]
    elements[number] = value
    block = _extension_block(elements)
    return bytes([packet[0] | 0x10]) + packet[1:start] + block + rest


def extension_elements(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """`(id, value)` of every element, one-byte and two-byte form."""
    if not packet[0] & 0x10:
        return
    position = RTP_HEADER_BYTES + 4 * (packet[0] & 0x0F)
    profile, words = struct.unpack_from("!HH", packet, position)
    position += 4
    end = min(position + 4 * words, len(packet))
    while position < end:
        if packet[position] == 0:
            position += 1
            continue
        if profile == _ONE_BYTE_PROFILE:
            number, size = packet[position] >> 4, (packet[position] & 0x0F) + 1
            position += 1
        elif position + 1 < end:
            number, size = packet[position], packet[position + 1]
            position += 2
        else:
            return
        yield number, packet[position : position + size]
        position += size


def _extension_block(elements: dict[int, bytes]) -> bytes:
    one_byte = all(number < 15 and 1 <= len(value) <= 16 for number, value in elements.items())
    body = b"".join(
        (bytes([number << 4 | len(value) - 1]) if one_byte else bytes([number, len(value)])) + value
        for number, value in elements.items()
    )
    body += bytes(-len(body) % 4)
    profile = _ONE_BYTE_PROFILE if one_byte else _TWO_BYTE_PROFILE
    return struct.pack("!HH", profile, len(body) // 4) + body


def rtcp_parts(compound: bytes) -> Iterator[tuple[int, int, bytes]]:
    """`(packet type, count or format, body)` of each packet of a compound one."""
    position = 0
    while position + 4 <= len(compound):
        first, kind, words = struct.unpack_from("!BBH", compound, position)
        end = position + 4 + 4 * words
        if end > len(compound):
            return
        yield kind, first & 0x1F, compound[position + 4 : end]
        position = end


def nacked(body: bytes) -> tuple[int, list[int]]:
    """Media SSRC and sequence numbers of a generic NACK's body (RFC 4585 section 6.2.1)."""
    (ssrc,) = struct.unpack_from("!I", body, 4)
    lost: list[int] = []
    for first, mask in struct.iter_unpack("!HH", body[8:]):
        lost.append(first)
        lost += [(first + bit + 1) & 0xFFFF for bit in range(16) if mask >> bit & 1]
    return ssrc, lost


def transport_feedback(body: bytes) -> tuple[int, int]:
    """`(received, lost)` of a transport-cc report's body (draft-holmer-rmcat-transport-wide-cc-01)."""
    _, count = struct.unpack_from("!HH", body, 8)
    received = seen = 0
    for (chunk,) in struct.iter_unpack("!H", body[16 : 16 + (len(body) - 16) // 2 * 2]):
        if seen >= count:
            break
        if chunk & 0x8000 == 0:
            symbols = [chunk >> 13 & 3] * (chunk & 0x1FFF)
        elif chunk & 0x4000:
            symbols = [chunk >> shift & 3 for shift in range(12, -1, -2)]
        else:
            symbols = [chunk >> shift & 1 for shift in range(13, -1, -1)]
        symbols = symbols[: count - seen]
        seen += len(symbols)
        received += sum(1 for symbol in symbols if symbol)
    return received, seen - received
