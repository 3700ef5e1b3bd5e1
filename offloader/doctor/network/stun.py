"""STUN messages (RFC 8489) and what TURN adds to them (RFC 8656), on bytes, as a client needs them.

Any input gives a message or a StunError.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

BINDING: Final = 0x001
ALLOCATE: Final = 0x003
REFRESH: Final = 0x004

USERNAME: Final = 0x0006
MESSAGE_INTEGRITY: Final = 0x0008
ERROR_CODE: Final = 0x0009
LIFETIME: Final = 0x000D
REALM: Final = 0x0014
NONCE: Final = 0x0015
XOR_RELAYED_ADDRESS: Final = 0x0016
REQUESTED_TRANSPORT: Final = 0x0019
XOR_MAPPED_ADDRESS: Final = 0x0020
PRIORITY: Final = 0x0024
FINGERPRINT: Final = 0x8028
ICE_CONTROLLING: Final = 0x802A

_COOKIE: Final = 0x2112A442
_HEADER: Final = struct.Struct(">HHI12s")
_ATTRIBUTE: Final = struct.Struct(">HH")
_INTEGRITY_BYTES: Final = 24
_FINGERPRINT_XOR: Final = 0x5354554E
_FINGERPRINT_BYTES: Final = 8
_SUCCESS: Final = 0x0100
_ERROR: Final = 0x0110
_MAX_BYTES: Final = 2048


class StunError(ValueError):
    """The bytes are no readable STUN response."""


@dataclass(frozen=True, slots=True)
class Response:
    """What came back."""

    method: int
    transaction_id: bytes
    succeeded: bool
    attributes: Mapping[int, bytes] = field(repr=False)
    """Values by type, the first one of each type (RFC 8489 section 14)."""
    _raw: bytes = field(repr=False)
    _integrity_at: int = 0

    @property
    def error_code(self) -> int:
        """300 to 699; 0 where there is none."""
        value = self.attributes.get(ERROR_CODE, b"")
        return (value[2] & 7) * 100 + value[3] if len(value) >= 4 else 0

    def address(self, kind: int = XOR_MAPPED_ADDRESS) -> tuple[str, int] | None:
        """An address that is masked with the cookie (RFC 8489 section 14.2); None where there is none."""
        value = self.attributes.get(kind, b"")
        length = {1: 8, 2: 20}.get(value[1]) if len(value) >= 2 else None
        if length is None or len(value) != length:
            return None
        mask = _COOKIE.to_bytes(4, "big") + self.transaction_id
        packed = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
        port = int.from_bytes(value[2:4], "big") ^ (_COOKIE >> 16)
        return str(ipaddress.ip_address(packed)), port

    def integrity_holds(self, key: bytes) -> bool:
        """Is it signed with `key` (RFC 8489 section 14.5)?"""
        at = self._integrity_at
        if not at:
            return False
        signed = _with_length(self._raw[:at], at - _HEADER.size + _INTEGRITY_BYTES)
        wanted = hmac.digest(key, signed, "sha1")
        return hmac.compare_digest(wanted, self.attributes[MESSAGE_INTEGRITY])


def new_transaction_id() -> bytes:
    """12 bytes that nobody can guess (RFC 8489 section 5)."""
    return os.urandom(12)


def request(
    method: int,
    transaction_id: bytes,
    attributes: Iterable[tuple[int, bytes]] = (),
    *,
    key: bytes | None = None,
) -> bytes:
    """A request; with `key` it is signed. A FINGERPRINT ends it: ports are shared with other protocols."""
    body = b"".join(_attribute(kind, value) for kind, value in attributes)
    raw = _HEADER.pack(method, len(body), _COOKIE, transaction_id) + body
    if key is not None:
        covered = _with_length(raw, len(raw) - _HEADER.size + _INTEGRITY_BYTES)
        raw += _attribute(MESSAGE_INTEGRITY, hmac.digest(key, covered, "sha1"))
    raw = _with_length(raw, len(raw) - _HEADER.size + _FINGERPRINT_BYTES)
    return raw + _attribute(FINGERPRINT, _fingerprint(raw))


def connectivity_check(
    transaction_id: bytes, *, ufrags: tuple[str, str], password: str, tie_breaker: bytes
) -> bytes:
    """What an ICE agent in the controlling role sends (RFC 8445 section 7.2.2), without nominating anything.

    `ufrags`: theirs, ours; `password`: theirs; `tie_breaker`: 8 bytes.
    """
    attributes = (
        (USERNAME, ":".join(ufrags).encode()),
        (
            PRIORITY,
            (110 << 24 | 65535 << 8 | 255).to_bytes(4, "big"),
        ),  # of a peer-reflexive candidate
        (ICE_CONTROLLING, tie_breaker),
    )
    return request(BINDING, transaction_id, attributes, key=password.encode())


def long_term_key(username: str, realm: str, password: str) -> bytes:
    """The key of a TURN server's user (RFC 8489 section 9.2.2)."""
    text = f"{username}:{realm}:{password}".encode()
    return hashlib.md5(text, usedforsecurity=False).digest()  # the RFC's own choice


def parse_response(data: bytes) -> Response:
    """Read a response, and check its FINGERPRINT where there is one.

    Raises:
        StunError: anything else than one whole, well-formed response.
    """
    if not _HEADER.size <= len(data) <= _MAX_BYTES:
        raise StunError(f"{len(data)} bytes are no STUN message")
    kind, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if cookie != _COOKIE or kind & 0xC000 or length & 3 or length + _HEADER.size != len(data):
        raise StunError("no STUN message")
    if kind & _ERROR not in (_SUCCESS, _ERROR):
        raise StunError("a STUN message that is no response")
    attributes: dict[int, bytes] = {}
    integrity_at = 0
    at = _HEADER.size
    while at < len(data):
        attribute, size = _ATTRIBUTE.unpack_from(data, at)
        value = data[at + 4 : at + 4 + size]
        if len(value) != size:
            raise StunError(f"STUN attribute {attribute:#06x} runs over the end")
        if attribute == FINGERPRINT and value != _fingerprint(data[:at]):
            raise StunError("STUN fingerprint is wrong")
        if attribute == MESSAGE_INTEGRITY:
            integrity_at = integrity_at or at
        if (
            not integrity_at or attribute == MESSAGE_INTEGRITY
        ):  # what comes after it is not covered by it
            attributes.setdefault(attribute, value)
        at += 4 + (size + 3 & ~3)
    method = kind & ~_ERROR
    return Response(
        method, transaction_id, kind & _ERROR == _SUCCESS, attributes, data, integrity_at
    )


def framed(message: bytes) -> bytes:
    """As media and checks of ICE go over TCP: two bytes of length before each packet (RFC 4571 section 2)."""
    return len(message).to_bytes(2, "big") + message


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) & 3)


def _with_length(raw: bytes, length: int) -> bytes:
    return raw[:2] + length.to_bytes(2, "big") + raw[4:]


def _fingerprint(covered: bytes) -> bytes:
    return (zlib.crc32(covered) ^ _FINGERPRINT_XOR).to_bytes(4, "big")
