"""One packet to many receivers: the inner loop of an SFU.

Per receiver: a copy of the payload, a header, one encryption in place, one system call. Nothing is
allocated but a slice. (Measured against sendmmsg: on one socket the system call's own work dominates, and
batching it gains nothing.) Only the loop's thread may call any of it.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from typing import Any

from rtc.ice.path import Address
from rtc.sent_history import SentHistory
from rtc.srtp import MAX_PACKET_BYTES, TRAILER_BYTES, ffi, lib

_HEAD = 32
"""Where payloads begin: headers stand right before, whatever their length."""
_AT_12, _AT_20, _AT_24 = _HEAD - 12, _HEAD - 20, _HEAD - 24
_data: Any = ffi.new("unsigned char[]", _HEAD + MAX_PACKET_BYTES + TRAILER_BYTES)
_view = memoryview(ffi.buffer(_data)).cast("B")
_pointer_12, _pointer_20, _pointer_24 = _data + _AT_12, _data + _AT_20, _data + _AT_24
_length: Any = ffi.new("int *")
_protect: Any = lib.srtp_protect

_PLAIN = struct.Struct("!BBHII").pack_into
_ONE = struct.Struct("!BBHIIHHBHx").pack_into
"""With the transport-wide sequence number as the only extension (RFC 8285 section 4.2)."""
_LEVEL = struct.Struct("!BBHIIHHBBxx").pack_into
_TWO = struct.Struct("!BBHIIHHBHBBxxx").pack_into


class Egress:
    """Where the protected packets of one peer leave, and what they share."""

    __slots__ = ("address", "dropped", "history", "send", "srtp", "transport_sequence")

    def __init__(self) -> None:
        self.srtp: Any = None
        """libsrtp's context; None while there are no keys."""
        self.send: Callable[..., Any] | None = None
        """`sendto` of a shared socket, or `send` of a flow when `address` is None; None: no path."""
        self.address: Address | None = None
        self.transport_sequence = 0
        self.history: SentHistory | None = None
        """Set where somebody estimates the receiver's bandwidth."""
        self.dropped = 0
        """Packets that the kernel did not take."""


class Outlet:
    """One track as one receiver gets it: its numbers, and how many packets it got."""

    __slots__ = (
        "_level_head",
        "_twcc_head",
        "egress",
        "kind",
        "octets",
        "packets",
        "payload_type",
        "ssrc",
    )

    def __init__(self, egress: Egress, *, ssrc: int, payload_type: int) -> None:
        self.egress = egress
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.packets = 0
        self.octets = 0
        """Payload bytes, as sender reports count them (RFC 3550 section 6.4.1)."""
        self.kind = 0
        self._twcc_head = self._level_head = 0

    def use(
        self, *, payload_type: int, transport_cc_id: int | None = None, level_id: int | None = None
    ) -> None:
        """Take the numbers that the receiver negotiated; None leaves an extension out."""
        self.payload_type = payload_type
        self._twcc_head = 0 if transport_cc_id is None else transport_cc_id << 4 | 1
        self._level_head = 0 if level_id is None else level_id << 4
        self.kind = (transport_cc_id is not None) + 2 * (level_id is not None)


def fan_out(
    outlets: Iterable[Outlet],
    payload: bytes | memoryview,
    *,
    first: int,
    marker: int,
    sequence: int,
    timestamp: int,
    level: int = -1,
) -> None:
    """Send one packet to all `outlets`.

    `first` is 0x80, with 0x20 for padding; `marker` 0x80 or 0; `level` the audio level byte, negative for
    none. The caller keeps payloads below `MAX_PACKET_BYTES` - 24 bytes.
    """
    view, length = _view, _length
    end = _HEAD + len(payload)
    extended = first | 0x10
    for outlet in outlets:
        egress = outlet.egress
        send = egress.send
        if send is None or egress.srtp is None:
            continue
        view[_HEAD:end] = payload
        kind = outlet.kind if level >= 0 else outlet.kind & 1
        type_byte = outlet.payload_type | marker
        if kind & 1:
            history = egress.history
            if history is None:
                number = egress.transport_sequence
                egress.transport_sequence = (number + 1) & 0xFFFF
            else:
                number = history.sent(end, time.monotonic_ns())
            if kind == 1:
                start, pointer = _AT_20, _pointer_20
                _ONE(
                    view, start, extended, type_byte, sequence, timestamp, outlet.ssrc,
                    0xBEDE, 1, outlet._twcc_head, number,
                )  # fmt: skip
            else:
                start, pointer = _AT_24, _pointer_24
                _TWO(
                    view, start, extended, type_byte, sequence, timestamp, outlet.ssrc,
                    0xBEDE, 2, outlet._twcc_head, number, outlet._level_head, level,
                )  # fmt: skip
        elif kind:
            start, pointer = _AT_20, _pointer_20
            _LEVEL(
                view, start, extended, type_byte, sequence, timestamp, outlet.ssrc,
                0xBEDE, 1, outlet._level_head, level,
            )  # fmt: skip
        else:
            start, pointer = _AT_12, _pointer_12
            _PLAIN(view, start, first, type_byte, sequence, timestamp, outlet.ssrc)
        length[0] = end - start
        if _protect(egress.srtp, pointer, length):
            egress.dropped += 1
            continue
        outlet.packets += 1
        outlet.octets += end - _HEAD
        try:
            if egress.address is None:
                send(view[start : start + length[0]])
            else:
                send(view[start : start + length[0]], egress.address)
        except OSError:
            egress.dropped += 1
