"""The messages by which a data channel is opened (RFC 8832), and the protocols of its payloads (RFC 8831)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final


class Ppid(IntEnum):
    """Payload protocol identifiers. SCTP has no empty messages: the two for these go with one byte."""

    DCEP = 50
    TEXT = 51
    BINARY = 53
    EMPTY_TEXT = 56
    EMPTY_BINARY = 57


ACK: Final = b"\x02"
_OPEN: Final = Struct("!BBHIHH")
_OPEN_TYPE: Final = 3
_UNORDERED: Final = 0x80
_MAX_LABEL_BYTES: Final = 1024
"""It could be 65535 long, and is kept as long as the channel is."""


@dataclass(frozen=True, slots=True)
class Open:
    """DATA_CHANNEL_OPEN. Limits of retransmission are not kept: what we send is always sent reliably."""

    label: str
    unordered: bool = False


def build_open(label: str) -> bytes:
    """For an ordered, reliable channel of normal priority."""
    name = label.encode()
    return _OPEN.pack(_OPEN_TYPE, 0, 256, 0, len(name), 0) + name


def parse_open(payload: bytes) -> Open | None:
    """None for what is no DATA_CHANNEL_OPEN, or has a label of more than 1024 bytes."""
    if len(payload) < _OPEN.size:
        return None
    kind, channel_type, _, _, label_bytes, protocol_bytes = _OPEN.unpack_from(payload)
    if kind != _OPEN_TYPE or len(payload) < _OPEN.size + label_bytes + protocol_bytes:
        return None
    if label_bytes > _MAX_LABEL_BYTES:
        return None
    name = payload[_OPEN.size : _OPEN.size + label_bytes]
    return Open(name.decode(errors="replace"), unordered=bool(channel_type & _UNORDERED))


def encode_message(message: bytes | str) -> tuple[int, bytes]:
    """`(protocol, payload)`."""
    if isinstance(message, str):
        return (Ppid.TEXT, message.encode()) if message else (Ppid.EMPTY_TEXT, b"\0")
    return (Ppid.BINARY, message) if message else (Ppid.EMPTY_BINARY, b"\0")


def decode_message(protocol: int, payload: bytes) -> bytes | str | None:
    """None for an unknown protocol, and for text that is not UTF-8."""
    match protocol:
        case Ppid.BINARY:
            return payload
        case Ppid.TEXT:
            try:
                return payload.decode()
            except UnicodeDecodeError:
                return None
        case Ppid.EMPTY_BINARY:
            return b""
        case Ppid.EMPTY_TEXT:
            return ""
    return None
