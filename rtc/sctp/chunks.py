"""Chunks of SCTP as bytes: RFC 9260 section 3.3, FORWARD-TSN (RFC 3758), RE-CONFIG (RFC 6525).

Builders return whole chunks with padding. Parsers take a chunk's value, without its four bytes of header and
its padding, and return None for what is too short or contradicts itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from rtc.sctp.serial import MASK_32


class ChunkType(IntEnum):
    DATA = 0
    INIT = 1
    INIT_ACK = 2
    SACK = 3
    HEARTBEAT = 4
    HEARTBEAT_ACK = 5
    ABORT = 6
    SHUTDOWN = 7
    SHUTDOWN_ACK = 8
    ERROR = 9
    COOKIE_ECHO = 10
    COOKIE_ACK = 11
    SHUTDOWN_COMPLETE = 14
    RE_CONFIG = 130
    FORWARD_TSN = 192


class Parameter(IntEnum):
    """Of INIT and INIT ACK."""

    STATE_COOKIE = 7
    UNRECOGNIZED = 8
    ZERO_CHECKSUM = 0x8001
    EXTENSIONS = 0x8008
    FORWARD_TSN = 0xC000


class Cause(IntEnum):
    """Of ERROR and ABORT (RFC 9260 section 3.3.10)."""

    INVALID_STREAM = 1
    STALE_COOKIE = 3
    OUT_OF_RESOURCE = 4
    UNRECOGNIZED_CHUNK = 6
    USER_INITIATED = 12
    PROTOCOL_VIOLATION = 13


END: Final = 0x01
BEGIN: Final = 0x02
UNORDERED: Final = 0x04
IMMEDIATE: Final = 0x08
"""Flags of DATA: fragments of a message, its order, and a wish for an immediate SACK (RFC 7053)."""
REFLECTED_TAG: Final = 0x01
"""Flag of ABORT and SHUTDOWN COMPLETE: the tag is the receiver's own choice for the sender."""

CHUNK_HEADER_BYTES: Final = 4
DATA_HEADER_BYTES: Final = 16
DTLS_CHECKSUM_ALTERNATIVE: Final = (1).to_bytes(4)
"""RFC 9653 section 8: packets in DTLS need no CRC32c."""
MAX_GAP_BLOCKS: Final = 200
_MAX_DUPLICATES: Final = 16
_LAST_DEFINED_PARAMETER: Final = 12
_MAX_REPORT_BYTES: Final = 256
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")

_CHUNK: Final = Struct("!BBH")
_PARAMETER: Final = Struct("!HH")
_DATA: Final = Struct("!BBHIHHI")
_DATA_FIELDS: Final = Struct("!IHHI")
_SACK: Final = Struct("!BBHIIHH")
_SACK_FIELDS: Final = Struct("!IIHH")
_PAIR_16: Final = Struct("!HH")
_WORD: Final = Struct("!I")
_INIT: Final = Struct("!IIHHI")

read_chunk_header = _CHUNK.unpack_from
"""`(type, flags, length with header and without padding)`."""
read_data = _DATA_FIELDS.unpack_from
"""`(TSN, stream, stream sequence number, payload protocol)`, from behind the chunk header."""


def chunk(kind: int, value: bytes = b"", flags: int = 0) -> bytes:
    """Any chunk."""
    return _CHUNK.pack(kind, flags, 4 + len(value)) + value + _PADDING[len(value) & 3]


def parameter(kind: int, value: bytes) -> bytes:
    """A parameter or an error cause, padded."""
    return _PARAMETER.pack(kind, 4 + len(value)) + value + _PADDING[len(value) & 3]


def read_parameters(value: bytes, position: int = 0) -> Iterator[tuple[int, bytes]]:
    """`(type, value)` of each parameter; ends at the first one that does not fit."""
    while position + 4 <= len(value):
        kind, length = _PARAMETER.unpack_from(value, position)
        if length < 4 or position + length > len(value):
            return
        yield kind, value[position + 4 : position + length]
        position += length + (-length & 3)


def data_chunk(
    tsn: int, flags: int, stream: int, sequence: int, protocol: int, payload: bytes
) -> bytes:
    head = _DATA.pack(
        ChunkType.DATA, flags, 16 + len(payload), tsn & MASK_32, stream, sequence, protocol
    )
    return head + payload + _PADDING[len(payload) & 3]


def sack_chunk(
    cumulative: int, window_bytes: int, gaps: list[tuple[int, int]], duplicates: list[int]
) -> bytes:
    """`gaps`: first and last TSN of runs above `cumulative`, ascending; what does not fit is left out."""
    if not gaps and not duplicates:
        return _SACK.pack(ChunkType.SACK, 0, 16, cumulative & MASK_32, window_bytes, 0, 0)
    gaps, duplicates = gaps[:MAX_GAP_BLOCKS], duplicates[:_MAX_DUPLICATES]
    length = 16 + 4 * (len(gaps) + len(duplicates))
    head = _SACK.pack(
        ChunkType.SACK,
        0,
        length,
        cumulative & MASK_32,
        window_bytes,
        len(gaps),
        len(duplicates),
    )
    blocks = [_PAIR_16.pack(first - cumulative, last - cumulative) for first, last in gaps]
    return b"".join((head, *blocks, *(_WORD.pack(tsn & MASK_32) for tsn in duplicates)))


def parse_sack(value: bytes) -> tuple[int, int, list[tuple[int, int]]] | None:
    """`(cumulative TSN, window in bytes, offsets of gap blocks)`; blocks must ascend without touching."""
    if len(value) < 12:
        return None
    cumulative, window_bytes, gap_count, duplicate_count = _SACK_FIELDS.unpack_from(value)
    if len(value) < 12 + 4 * (gap_count + duplicate_count):
        return None
    gaps: list[tuple[int, int]] = []
    reached = 0
    for index in range(gap_count):
        first, last = _PAIR_16.unpack_from(value, 12 + 4 * index)
        if not reached < first <= last:
            return None
        gaps.append((first, last))
        reached = last
    return cumulative, window_bytes, gaps


@dataclass(frozen=True, slots=True)
class Init:
    """INIT or INIT ACK."""

    tag: int
    window_bytes: int
    outbound_streams: int
    inbound_streams: int
    tsn: int
    cookie: bytes = b""
    """Of INIT ACK only."""
    zero_checksum: bool = False
    """Takes packets without CRC32c inside DTLS (RFC 9653)."""
    unrecognized: bytes = b""
    """Parameters that want to be reported, as they came."""


def init_chunk(kind: int, init: Init) -> bytes:
    """INIT or INIT ACK with all that we can do."""
    parts = [
        _INIT.pack(
            init.tag,
            init.window_bytes,
            init.outbound_streams,
            init.inbound_streams,
            init.tsn & MASK_32,
        ),
        parameter(Parameter.FORWARD_TSN, b""),
        parameter(Parameter.EXTENSIONS, bytes([ChunkType.RE_CONFIG, ChunkType.FORWARD_TSN])),
        parameter(Parameter.ZERO_CHECKSUM, DTLS_CHECKSUM_ALTERNATIVE),
    ]
    if init.cookie:
        parts.append(parameter(Parameter.STATE_COOKIE, init.cookie))
    if init.unrecognized:
        parts.append(parameter(Parameter.UNRECOGNIZED, init.unrecognized))
    return chunk(kind, b"".join(parts))


def parse_init(value: bytes) -> Init | None:
    """Also None for a tag or a number of streams of zero (RFC 9260 section 3.3.2)."""
    if len(value) < _INIT.size:
        return None
    tag, window_bytes, outbound, inbound, tsn = _INIT.unpack_from(value)
    if not tag or not outbound or not inbound:
        return None
    cookie, unrecognized = b"", b""
    zero_checksum = False
    for kind, content in read_parameters(value, _INIT.size):
        if kind == Parameter.STATE_COOKIE:
            cookie = content
        elif kind == Parameter.ZERO_CHECKSUM:
            zero_checksum = content == DTLS_CHECKSUM_ALTERNATIVE
        elif kind != Parameter.FORWARD_TSN:
            # The two highest bits say what to do with the unknown (RFC 9260 section 3.2.1).
            if kind & 0x4000 and not unrecognized:
                unrecognized = parameter(kind, content[:_MAX_REPORT_BYTES])
            if not kind & 0x8000 and kind > _LAST_DEFINED_PARAMETER:
                break
    return Init(tag, window_bytes, outbound, inbound, tsn, cookie, zero_checksum, unrecognized)


def parse_forward_tsn(value: bytes) -> tuple[int, list[tuple[int, int]]] | None:
    """`(new cumulative TSN, (stream, its last skipped sequence number) …)`."""
    if len(value) < 4:
        return None
    (cumulative,) = _WORD.unpack_from(value)
    count = (len(value) - 4) // 4
    return cumulative, [_PAIR_16.unpack_from(value, 4 + 4 * index) for index in range(count)]


def first_cause(value: bytes) -> str:
    """Of an ABORT, its number for a log line: the text beside it is the other side's, and goes into none."""
    for cause, _ in read_parameters(value):
        return f" (cause {cause})"
    return ""
