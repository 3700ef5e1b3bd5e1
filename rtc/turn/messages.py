"""STUN messages of TURN (RFC 8489, RFC 8656 section 18) and ChannelData, read and written on bytes.

The binding messages of connectivity checks are in `rtc.stun`, which is made for speed and knows nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum

from rtc.errors import RtcError
from rtc.ice.path import Address

_COOKIE = 0x2112A442
_COOKIE_BYTES = _COOKIE.to_bytes(4, "big")
_HEADER = struct.Struct(">HHI12s")
_ATTRIBUTE = struct.Struct(">HH")
_HEADER_BYTES = 20
_INTEGRITY_BYTES = 24
_FINGERPRINT_XOR = 0x5354554E
MAX_MESSAGE_BYTES = 4096
FIRST_CHANNEL, LAST_CHANNEL = 0x4000, 0x4FFF
"""RFC 8656 section 12."""
ERROR_TEXTS = {
    401: "Unauthorized: credentials wrong or expired",
    403: "Forbidden",
    437: "Allocation Mismatch",
    441: "Wrong Credentials",
    442: "Unsupported Transport Protocol",
    486: "Allocation Quota Reached",
    508: "Insufficient Capacity",
}
"""RFC 8656 section 18.13, for people."""


class TurnMessageError(RtcError, ValueError):
    """The bytes are no readable TURN message."""


class Method(IntEnum):
    """RFC 8656 section 17."""

    ALLOCATE = 0x003
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009


class Kind(IntEnum):
    """The class bits of a message type (RFC 8489 section 5)."""

    REQUEST = 0x000
    INDICATION = 0x010
    SUCCESS = 0x100
    ERROR = 0x110


class Attribute(IntEnum):
    """Those that we read or write (RFC 8656 section 18)."""

    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    CHANNEL_NUMBER = 0x000C
    LIFETIME = 0x000D
    XOR_PEER_ADDRESS = 0x0012
    DATA = 0x0013
    REALM = 0x0014
    NONCE = 0x0015
    XOR_RELAYED_ADDRESS = 0x0016
    REQUESTED_TRANSPORT = 0x0019
    XOR_MAPPED_ADDRESS = 0x0020
    FINGERPRINT = 0x8028


@dataclass(frozen=True, slots=True)
class TurnMessage:
    """One message that was read; of several attributes alike the first counts."""

    method: int
    kind: Kind
    transaction_id: bytes
    attributes: dict[int, bytes]
    raw: bytes = field(repr=False)
    integrity_at: int
    """Where MESSAGE-INTEGRITY begins; 0 if there is none."""

    @property
    def error(self) -> tuple[int, str]:
        """Code and text of ERROR-CODE; (0, "") if there is none."""
        value = self.attributes.get(Attribute.ERROR_CODE, b"")
        if len(value) < 4:
            return 0, ""
        reason = value[4:100].decode("utf-8", "replace")
        return (value[2] & 7) * 100 + value[3], "".join(c for c in reason if c.isprintable())

    @property
    def lifetime_s(self) -> int | None:
        value = self.attributes.get(Attribute.LIFETIME, b"")
        return int.from_bytes(value, "big") if len(value) == 4 else None

    def address(self, attribute: Attribute) -> Address | None:
        """An XOR-… address; None when missing or unreadable."""
        value = self.attributes.get(attribute, b"")
        if len(value) not in (8, 20) or value[1] != (1 if len(value) == 8 else 2):
            return None
        mask = _COOKIE_BYTES + self.transaction_id
        port = int.from_bytes(value[2:4], "big") ^ (_COOKIE >> 16)
        packed = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
        return str(ipaddress.ip_address(packed)), port

    def integrity_holds(self, key: bytes) -> bool:
        """Is there a MESSAGE-INTEGRITY, made with `key` (RFC 8489 section 14.5)?"""
        at = self.integrity_at
        if not at:
            return False
        length = (at - _HEADER_BYTES + _INTEGRITY_BYTES).to_bytes(2, "big")
        covered = self.raw[:2] + length + self.raw[4:at]
        wanted = hmac.digest(key, covered, "sha1")
        return hmac.compare_digest(wanted, self.raw[at + 4 : at + _INTEGRITY_BYTES])


def long_term_key(username: str, realm: str, password: str) -> bytes:
    """RFC 8489 section 9.2.2."""
    text = f"{username}:{realm}:{password}".encode()
    return hashlib.md5(text, usedforsecurity=False).digest()


def new_transaction_id() -> bytes:
    return os.urandom(12)


def build(
    method: Method,
    kind: Kind,
    transaction_id: bytes,
    attributes: bytes = b"",
    *,
    key: bytes | None = None,
) -> bytes:
    """A message of encoded attributes; with a key, MESSAGE-INTEGRITY is added, FINGERPRINT always."""
    message_type = _type(method, kind)
    if key is not None:
        length = len(attributes) + _INTEGRITY_BYTES
        covered = _HEADER.pack(message_type, length, _COOKIE, transaction_id) + attributes
        attributes += _ATTRIBUTE.pack(Attribute.MESSAGE_INTEGRITY, 20)
        attributes += hmac.digest(key, covered, "sha1")
    message = _HEADER.pack(message_type, len(attributes) + 8, _COOKIE, transaction_id) + attributes
    checksum = zlib.crc32(message) ^ _FINGERPRINT_XOR
    return message + struct.pack(">HHI", Attribute.FINGERPRINT, 4, checksum)


def encode(attribute: Attribute, value: bytes) -> bytes:
    """One attribute with its padding."""
    return _ATTRIBUTE.pack(attribute, len(value)) + value + bytes(-len(value) & 3)


def encode_address(attribute: Attribute, address: Address, transaction_id: bytes) -> bytes:
    """One XOR-… address (RFC 8489 section 14.2)."""
    packed = ipaddress.ip_address(address[0]).packed
    mask = _COOKIE_BYTES + transaction_id
    xored = bytes(a ^ b for a, b in zip(packed, mask, strict=False))
    family = 1 if len(packed) == 4 else 2
    return encode(attribute, struct.pack(">BBH", 0, family, address[1] ^ (_COOKIE >> 16)) + xored)


def parse(data: bytes) -> TurnMessage:
    """Read one message.

    Raises:
        TurnMessageError: anything else than a whole STUN message.
    """
    total = len(data)
    if not _HEADER_BYTES <= total <= MAX_MESSAGE_BYTES:
        raise TurnMessageError(f"{total} bytes are no STUN message")
    message_type, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if cookie != _COOKIE or message_type & 0xC000 or length & 3 or length + _HEADER_BYTES != total:
        raise TurnMessageError("not a STUN message, or not a whole one")
    attributes: dict[int, bytes] = {}
    integrity_at = 0
    at = _HEADER_BYTES
    while at < total:
        attribute, size = _ATTRIBUTE.unpack_from(data, at)
        following = at + 4 + (size + 3 & ~3)
        if following > total:
            raise TurnMessageError(f"STUN attribute {attribute:#06x} runs over the end")
        if attribute == Attribute.MESSAGE_INTEGRITY:
            if size != 20:
                raise TurnMessageError(f"STUN MESSAGE-INTEGRITY has {size} bytes, wanted 20")
            integrity_at = integrity_at or at
        elif not integrity_at:  # what follows is not covered by it
            attributes.setdefault(attribute, data[at + 4 : at + 4 + size])
        at = following
    method = message_type & 0x000F | (message_type & 0x00E0) >> 1 | (message_type & 0x3E00) >> 2
    kind = Kind(message_type & 0x0110)
    return TurnMessage(method, kind, transaction_id, attributes, data, integrity_at)


def channel_data(channel: int, data: bytes | memoryview, *, padded: bool) -> bytes:
    """A ChannelData message; `padded` for streams (RFC 8656 section 12.4)."""
    size = len(data)
    message = _ATTRIBUTE.pack(channel, size) + data
    return message + bytes(-size & 3) if padded else message


def parse_channel_data(message: bytes) -> tuple[int, bytes] | None:
    """Channel and data of a ChannelData message; None if it is none, or not whole."""
    if len(message) < 4:
        return None
    channel, size = _ATTRIBUTE.unpack_from(message)
    if not FIRST_CHANNEL <= channel <= LAST_CHANNEL or len(message) < 4 + size:
        return None
    return channel, message[4 : 4 + size]


class StreamReader:
    """Cuts what a TCP or TLS connection to a TURN server brings into messages."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def push(self, data: bytes) -> list[bytes]:
        """The messages that are complete now.

        Raises:
            TurnMessageError: this is no TURN.
        """
        buffer = self._buffer + data if self._buffer else data
        messages: list[bytes] = []
        position, total = 0, len(buffer)
        while total - position >= 4:
            first, size = _ATTRIBUTE.unpack_from(buffer, position)
            if first < 0x4000:
                whole = padded = _HEADER_BYTES + size
            elif first <= LAST_CHANNEL:
                whole = 4 + size
                padded = 4 + (size + 3 & ~3)
            else:
                raise TurnMessageError(f"a message beginning with {first:#06x}")
            if first < 0x4000 and whole > MAX_MESSAGE_BYTES:
                raise TurnMessageError(f"a message of {whole} bytes")
            if position + padded > total:
                break
            messages.append(buffer[position : position + whole])
            position += padded
        self._buffer = buffer[position:]
        return messages


def _type(method: Method, kind: Kind) -> int:
    return method & 0x000F | (method & 0x0070) << 1 | (method & 0x0F80) << 2 | kind
