"""SCTP packets: the common header, CRC32c, and chunks bundled behind it (RFC 9260 section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from google_crc32c import value as crc32c

from rtc.sctp.chunks import CHUNK_HEADER_BYTES, REFLECTED_TAG, ChunkType
from rtc.sctp.timings import MAX_PACKET_BYTES

HEADER_BYTES: Final = 12
_HEADER: Final = Struct("!HHI")
_CHECKSUM: Final = Struct("<I")  # as the CRC's reflected bits come out (RFC 9260 appendix A)
_NO_CHECKSUM: Final = bytes(4)
_NEED_CHECKSUM: Final = (ChunkType.INIT, ChunkType.COOKIE_ECHO)
_MAY_REFLECT: Final = (ChunkType.ABORT, ChunkType.SHUTDOWN_COMPLETE)


def build_packet(
    source_port: int,
    destination_port: int,
    tag: int,
    chunks: bytes,
    *,
    checksum: bool = True,
) -> bytes:
    """A packet around padded chunks; `checksum=False` leaves the field zero (RFC 9653)."""
    header = _HEADER.pack(source_port, destination_port, tag)
    if not checksum:
        return header + _NO_CHECKSUM + chunks
    value = crc32c(header + _NO_CHECKSUM + chunks)
    return header + _CHECKSUM.pack(value) + chunks


def is_for(packet: bytes, source: int, destination: int, tag: int, peer_tag: int) -> bool:
    """Does a packet of these ports belong to the association with our `tag`, and is it undamaged?

    `peer_tag`: zero while it is not known. INIT comes without a tag, ABORT and SHUTDOWN COMPLETE may reflect
    the other side's own (RFC 9260 section 8.5.1). Without a checksum no INIT and no COOKIE ECHO is taken, as
    they come before both sides know what the other can do (RFC 9653 section 5.2).
    """
    if len(packet) < HEADER_BYTES + CHUNK_HEADER_BYTES:
        return False
    from_port, to_port, own_tag = _HEADER.unpack_from(packet)
    if from_port != source or to_port != destination:
        return False
    first, flags = packet[HEADER_BYTES], packet[HEADER_BYTES + 1]
    if first == ChunkType.INIT:
        wanted = 0
    elif first in _MAY_REFLECT and flags & REFLECTED_TAG:
        wanted = peer_tag or tag
    else:
        wanted = tag
    if own_tag != wanted:
        return False
    if packet[8:12] == _NO_CHECKSUM:
        return first not in _NEED_CHECKSUM
    (checksum,) = _CHECKSUM.unpack_from(packet, 8)
    return bool(checksum == crc32c(packet[:8] + _NO_CHECKSUM + packet[12:]))


def bundle(chunks: Iterable[bytes]) -> list[bytes]:
    """Join chunks, in order, into as few packet bodies as the packet size allows."""
    bodies: list[bytes] = []
    current: list[bytes] = []
    room = MAX_PACKET_BYTES - HEADER_BYTES
    for chunk in chunks:
        if len(chunk) > room and current:
            bodies.append(b"".join(current))
            current = []
            room = MAX_PACKET_BYTES - HEADER_BYTES
        current.append(chunk)
        room -= len(chunk)
    if current:
        bodies.append(b"".join(current))
    return bodies
