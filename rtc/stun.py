"""STUN binding messages (RFC 8489) as ICE uses them (RFC 8445 section 7): read and written on bytes.

Only what connectivity checks need. Any input gives a message or a StunError, in bounded time.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct
import zlib

from rtc.errors import RtcError

BINDING_REQUEST = 0x0001
BINDING_INDICATION = 0x0011
BINDING_SUCCESS = 0x0101
BINDING_ERROR = 0x0111

BAD_REQUEST = 400
UNKNOWN_ATTRIBUTE = 420
ROLE_CONFLICT = 487
"""RFC 8445 section 7.3.1.1."""

MAX_MESSAGE_BYTES = 2048
"""Longer ones are refused: no check comes near, and the time to read one stays bounded."""

_MAGIC_COOKIE = 0x2112A442
_COOKIE_BYTES = _MAGIC_COOKIE.to_bytes(4, "big")
_HEADER = struct.Struct(">HHI12s")
_ATTRIBUTE = struct.Struct(">HH")
_HEADER_BYTES = 20
_FINGERPRINT_XOR = 0x5354554E
_FINGERPRINT_BYTES = 8
_INTEGRITY_BYTES = 24
_MAX_UNKNOWN = 16
_FAMILIES = {1: (socket.AF_INET, 8), 2: (socket.AF_INET6, 20)}

_USERNAME = 0x0006
_MESSAGE_INTEGRITY = 0x0008
_ERROR_CODE = 0x0009
_UNKNOWN_ATTRIBUTES = 0x000A
_XOR_MAPPED_ADDRESS = 0x0020
_PRIORITY = 0x0024
_USE_CANDIDATE = 0x0025
_FINGERPRINT = 0x8028
_ICE_CONTROLLED = 0x8029
_ICE_CONTROLLING = 0x802A
_IGNORED = (0x0001, _UNKNOWN_ATTRIBUTES)
"""Known, but of no use here: MAPPED-ADDRESS, which old servers send in addition, and the details of a 420."""
_SIZES = {
    _MESSAGE_INTEGRITY: 20,
    _PRIORITY: 4,
    _USE_CANDIDATE: 0,
    _FINGERPRINT: 4,
    _ICE_CONTROLLED: 8,
    _ICE_CONTROLLING: 8,
}
_REASONS = {
    BAD_REQUEST: b"Bad Request",
    UNKNOWN_ATTRIBUTE: b"Unknown Attribute",
    ROLE_CONFLICT: b"Role Conflict",
}


class StunError(RtcError, ValueError):
    """The datagram is no readable STUN binding message."""


class StunMessage:
    """A binding message that was read. Attributes that were not there are None (or False, 0, empty)."""

    __slots__ = (
        "_integrity_at",
        "_raw",
        "controlled",
        "controlling",
        "error_code",
        "kind",
        "mapped",
        "priority",
        "transaction_id",
        "unknown",
        "use_candidate",
        "username",
    )

    def __init__(self, raw: bytes, kind: int, transaction_id: bytes) -> None:
        self._raw = raw
        self._integrity_at = 0
        self.kind = kind
        """One of BINDING_REQUEST, BINDING_INDICATION, BINDING_SUCCESS, BINDING_ERROR."""
        self.transaction_id = transaction_id
        self.username: str | None = None
        self.priority: int | None = None
        self.use_candidate = False
        self.controlling: int | None = None
        """Tie-breaker of a sender that takes itself for the controlling side."""
        self.controlled: int | None = None
        self.mapped: tuple[str, int] | None = None
        """XOR-MAPPED-ADDRESS: where the answering side saw the request come from."""
        self.error_code = 0
        self.unknown: tuple[int, ...] = ()
        """Types below 0x8000 that we do not know (RFC 8489 section 14); the first 16."""

    def integrity_holds(self, key: bytes) -> bool:
        """Is there a MESSAGE-INTEGRITY, and made with `key` (RFC 8489 section 14.5)?"""
        at = self._integrity_at
        if not at:
            return False
        raw = self._raw
        length = (at - _HEADER_BYTES + _INTEGRITY_BYTES).to_bytes(2, "big")
        wanted = hmac.digest(key, raw[:2] + length + raw[4:at], "sha1")
        return hmac.compare_digest(wanted, raw[at + 4 : at + _INTEGRITY_BYTES])


def new_transaction_id(tag: str = "") -> bytes:
    """12 bytes, unpredictable but for a `tag` of at most 2 characters (RFC 8489 section 5)."""
    return tag.encode() + os.urandom(12 - len(tag))


def is_stun(datagram: bytes) -> bool:
    """By first byte and magic cookie (RFC 7983 section 7)."""
    return len(datagram) >= _HEADER_BYTES and datagram[0] < 4 and datagram[4:8] == _COOKIE_BYTES


def request_ufrag(datagram: bytes) -> str | None:
    """The part of USERNAME before the colon, our own ufrag, of a binding request; None if there is none.

    Nothing else is read: cheap enough to sort a flood of forged requests. Integrity is still to be
    checked.
    """
    length = len(datagram)
    if (
        not _HEADER_BYTES <= length <= MAX_MESSAGE_BYTES
        or datagram[0] != 0
        or datagram[1] != BINDING_REQUEST
        or datagram[4:8] != _COOKIE_BYTES
    ):
        return None
    at = _HEADER_BYTES
    while at + 4 <= length:
        kind, size = _ATTRIBUTE.unpack_from(datagram, at)
        if kind == _USERNAME:
            ufrag, colon, _ = datagram[at + 4 : at + 4 + size].partition(b":")
            return ufrag.decode("ascii", "replace") if colon else None
        at += 4 + (size + 3 & ~3)
    return None


def parse_message(datagram: bytes) -> StunMessage:
    """Read a binding message and check its FINGERPRINT when there is one.

    Raises:
        StunError: anything else than a whole, well-formed binding message.
    """
    length = len(datagram)
    if not _HEADER_BYTES <= length <= MAX_MESSAGE_BYTES:
        raise StunError(
            f"{length} bytes are no STUN message of {_HEADER_BYTES}-{MAX_MESSAGE_BYTES}"
        )
    kind, body_length, cookie, transaction_id = _HEADER.unpack_from(datagram)
    if cookie != _MAGIC_COOKIE or kind & 0xFEEF != BINDING_REQUEST:
        raise StunError("not a STUN binding message")
    if body_length & 3 or body_length + _HEADER_BYTES != length:
        raise StunError(f"STUN length field says {body_length}, there are {length - _HEADER_BYTES}")
    message = StunMessage(datagram, kind, transaction_id)
    at = _HEADER_BYTES
    while at < length:
        attribute, size = _ATTRIBUTE.unpack_from(datagram, at)
        following = at + 4 + (size + 3 & ~3)
        if following > length:
            raise StunError(f"STUN attribute {attribute:#06x} of {size} bytes runs over the end")
        if size != _SIZES.get(attribute, size):
            raise StunError(f"STUN attribute {attribute:#06x} has {size} bytes")
        if attribute == _FINGERPRINT:
            _check_fingerprint(datagram, at)
        elif message._integrity_at:
            pass  # not covered by it, so not to be believed (RFC 8489 section 14.5)
        elif attribute == _MESSAGE_INTEGRITY:
            message._integrity_at = at
        else:
            _take(message, attribute, datagram[at + 4 : at + 4 + size])
        at = following
    return message


def binding_request(
    transaction_id: bytes,
    *,
    username: bytes,
    key: bytes,
    priority: int,
    tie_breaker: bytes,
    controlling: bool,
    use_candidate: bool = False,
) -> bytes:
    """A connectivity or consent check (RFC 8445 section 7.1); `tie_breaker` has 8 bytes."""
    role = _ICE_CONTROLLING if controlling else _ICE_CONTROLLED
    attributes = (
        _ATTRIBUTE.pack(_USERNAME, len(username))
        + username
        + bytes(-len(username) & 3)
        + struct.pack(">HHIHH", _PRIORITY, 4, priority, role, 8)
        + tie_breaker
    )
    if use_candidate:
        attributes += _ATTRIBUTE.pack(_USE_CANDIDATE, 0)
    return _sealed(BINDING_REQUEST, transaction_id, attributes, key)


def server_request(transaction_id: bytes) -> bytes:
    """What asks a STUN server for the public address: no credentials (RFC 8489 section 12)."""
    return _sealed(BINDING_REQUEST, transaction_id, b"", None)


def binding_success(transaction_id: bytes, *, mapped: tuple[str, int], key: bytes | None) -> bytes:
    """The answer to a check that came from `mapped`."""
    host, port = mapped
    family = 2 if ":" in host else 1
    packed = socket.inet_pton(_FAMILIES[family][0], host)
    mask = _COOKIE_BYTES + transaction_id
    xored = bytes(a ^ b for a, b in zip(packed, mask, strict=False))
    attributes = (
        struct.pack(
            ">HHBBH", _XOR_MAPPED_ADDRESS, 4 + len(xored), 0, family, port ^ (_MAGIC_COOKIE >> 16)
        )
        + xored
    )
    return _sealed(BINDING_SUCCESS, transaction_id, attributes, key)


def binding_error(
    transaction_id: bytes, *, code: int, key: bytes | None, unknown: tuple[int, ...] = ()
) -> bytes:
    """A refusal; `unknown` names the attributes of a 420."""
    reason = _REASONS.get(code, b"")
    attributes = (
        struct.pack(">HHHBB", _ERROR_CODE, 4 + len(reason), 0, code // 100, code % 100)
        + reason
        + bytes(-len(reason) & 3)
    )
    if unknown:
        types = b"".join(kind.to_bytes(2, "big") for kind in unknown)
        attributes += (
            _ATTRIBUTE.pack(_UNKNOWN_ATTRIBUTES, len(types)) + types + bytes(-len(types) & 3)
        )
    return _sealed(BINDING_ERROR, transaction_id, attributes, key)


def _sealed(kind: int, transaction_id: bytes, attributes: bytes, key: bytes | None) -> bytes:
    """Header, attributes, MESSAGE-INTEGRITY (with a key) and FINGERPRINT."""
    length = len(attributes)
    if key is not None:
        length += _INTEGRITY_BYTES
        covered = _HEADER.pack(kind, length, _MAGIC_COOKIE, transaction_id) + attributes
        attributes += b"\x00\x08\x00\x14" + hmac.digest(key, covered, "sha1")
    message = (
        _HEADER.pack(kind, length + _FINGERPRINT_BYTES, _MAGIC_COOKIE, transaction_id) + attributes
    )
    return message + struct.pack(">HHI", _FINGERPRINT, 4, zlib.crc32(message) ^ _FINGERPRINT_XOR)


def _check_fingerprint(datagram: bytes, at: int) -> None:
    if at + _FINGERPRINT_BYTES != len(datagram):
        raise StunError("STUN FINGERPRINT is not the last attribute")
    found = int.from_bytes(datagram[at + 4 :], "big")
    if found != zlib.crc32(datagram[:at]) ^ _FINGERPRINT_XOR:
        raise StunError("STUN FINGERPRINT does not match")


def _take(message: StunMessage, attribute: int, value: bytes) -> None:
    """Store one attribute; of several alike the first counts (RFC 8489 section 14)."""
    if attribute == _USERNAME:
        if message.username is None:
            try:
                message.username = value.decode()
            except UnicodeDecodeError as error:
                raise StunError("STUN USERNAME is not UTF-8") from error
    elif attribute == _PRIORITY:
        if message.priority is None:
            message.priority = int.from_bytes(value, "big")
    elif attribute == _USE_CANDIDATE:
        message.use_candidate = True
    elif attribute == _ICE_CONTROLLING:
        if message.controlling is None:
            message.controlling = int.from_bytes(value, "big")
    elif attribute == _ICE_CONTROLLED:
        if message.controlled is None:
            message.controlled = int.from_bytes(value, "big")
    elif attribute == _XOR_MAPPED_ADDRESS:
        if message.mapped is None:
            message.mapped = _mapped_address(value, message.transaction_id)
    elif attribute == _ERROR_CODE:
        if len(value) < 4:
            raise StunError(f"STUN ERROR-CODE has {len(value)} bytes")
        message.error_code = (value[2] & 7) * 100 + value[3]
    elif attribute in _IGNORED or attribute >= 0x8000 or len(message.unknown) >= _MAX_UNKNOWN:
        pass
    else:
        message.unknown += (attribute,)


def _mapped_address(value: bytes, transaction_id: bytes) -> tuple[str, int]:
    family, size = _FAMILIES.get(value[1] if len(value) > 1 else 0, (None, 0))
    if family is None or len(value) != size:
        raise StunError("STUN XOR-MAPPED-ADDRESS is neither IPv4 nor IPv6")
    port = int.from_bytes(value[2:4], "big") ^ (_MAGIC_COOKIE >> 16)
    mask = _COOKIE_BYTES + transaction_id
    packed = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
    return socket.inet_ntop(family, packed), port
