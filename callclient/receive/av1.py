"""AV1 in RTP (AOM "RTP Payload Format for AV1", v1.0): packets to temporal units. Pure.

A packet holds OBU elements, whole OBUs or pieces of one. Decoders want the low-overhead bitstream format
(AV1 section 5.2), in which each OBU says how long it is: RTP leaves that out.
"""

from __future__ import annotations

from typing import Final

from callclient.receive.frames import MAX_FRAME_BYTES, Assembled
from callclient.receive.jitter import BufferedPacket
from callclient.receive.tracks import TrackStatistics

_CONTINUES: Final = 0x80
"""Z: the first element continues an OBU of the packet before."""
_TO_BE_CONTINUED: Final = 0x40
"""Y: the last element goes on in the next packet."""
_HAS_EXTENSION: Final = 0x04
_HAS_SIZE: Final = 0x02
_SEQUENCE_HEADER, _TEMPORAL_DELIMITER, _FRAME_HEADER, _FRAME = 1, 2, 3, 6
_TILE_LIST, _PADDING = 8, 15
_LEFT_OUT: Final = frozenset({_TEMPORAL_DELIMITER, _TILE_LIST, _PADDING})
"""Not sent over RTP, or of no use (section 5)."""
_DELIMITER: Final = bytes([_TEMPORAL_DELIMITER << 3 | _HAS_SIZE, 0])
_MAX_ELEMENTS: Final = 4096


class Av1Error(ValueError):
    """A payload that is no AV1."""


class Av1Depacketizer:
    """Collects a temporal unit from its first packet to the marker; one with a hole is dropped."""

    def __init__(self, statistics: TrackStatistics) -> None:
        self._statistics = statistics
        self._obus: list[bytes] = []
        self._piece: bytearray | None = None
        """The OBU that is not complete yet."""
        self._first: BufferedPacket | None = None
        self._packets = 0
        self._bytes = 0
        self._lost = 0

    def push(self, packet: BufferedPacket) -> Assembled | None:
        payload = packet.payload
        if packet.lost_before:
            self._drop(packet.lost_before)
        if not payload:  # padding, by which senders probe the network
            return None
        if self._first is None or packet.timestamp != self._first.timestamp:
            if self._first is not None:
                self._drop(1)
            if payload[0] & _CONTINUES:
                self._lost += 1
                self._statistics.drop("incomplete")
                return None
            self._first = packet
        self._packets += 1
        self._bytes += len(payload)
        if self._bytes > MAX_FRAME_BYTES:
            self._drop(1, reason="oversized")
            return None
        try:
            self._take(payload)
        except Av1Error:
            self._drop(1, reason="malformed")
            return None
        return self._finish(self._first) if packet.header.marker else None

    def _take(self, payload: bytes) -> None:
        elements = split_elements(payload)
        first = elements[0]
        if payload[0] & _CONTINUES:
            if self._piece is None:
                raise Av1Error("a piece of an OBU without its beginning")
            self._piece += first
            elements = elements[1:]
            if not elements and payload[0] & _TO_BE_CONTINUED:
                return
        self._end_piece()
        if payload[0] & _TO_BE_CONTINUED:
            self._piece = bytearray(elements.pop())
        for element in elements:
            self._add(element)

    def _end_piece(self) -> None:
        if self._piece is not None:
            self._add(bytes(self._piece))
            self._piece = None

    def _add(self, obu: bytes) -> None:
        if obu and obu[0] >> 3 & 15 not in _LEFT_OUT:
            self._obus.append(with_size(obu))

    def _finish(self, first: BufferedPacket) -> Assembled | None:
        if self._piece is not None or not self._obus:
            self._drop(1)
            return None
        payload = _DELIMITER + b"".join(self._obus)
        frame = Assembled(
            payload, first.sequence, first.timestamp, keyframe=starts_sequence(self._obus)
        )
        frame.lost, self._lost = self._lost, 0
        self._reset()
        return frame

    def _drop(self, lost: int, *, reason: str = "incomplete") -> None:
        self._lost += lost
        if self._packets:
            self._statistics.drop(reason, self._packets)
        self._reset()

    def _reset(self) -> None:
        self._obus, self._piece, self._first = [], None, None
        self._packets = self._bytes = 0


def split_elements(payload: bytes) -> list[bytes]:
    """The OBU elements of a packet, at least one (section 4.3, 4.4).

    Raises:
        Av1Error: lengths do not fit.
    """
    count = payload[0] >> 4 & 3 if payload else 0
    position, size = 1, len(payload)
    elements: list[bytes] = []
    while position < size:
        if count and len(elements) == count - 1:
            elements.append(payload[position:])
            position = size
            break
        length, position = read_leb128(payload, position)
        if position + length > size or len(elements) >= _MAX_ELEMENTS:
            raise Av1Error("an OBU element is longer than its packet")
        elements.append(payload[position : position + length])
        position += length
    if not elements or (count and len(elements) != count):
        raise Av1Error(f"packet has {len(elements)} OBU elements; wanted {count or 'one or more'}")
    return elements


def with_size(obu: bytes) -> bytes:
    """The OBU with its length in its header (AV1 section 5.3.2); not empty.

    Raises:
        Av1Error: it is cut off.
    """
    first = obu[0]
    header = 2 if first & _HAS_EXTENSION else 1
    if len(obu) < header:
        raise Av1Error("OBU header is cut off")
    if first & _HAS_SIZE:
        length, start = read_leb128(obu, header)
        if start + length > len(obu):
            raise Av1Error("OBU is cut off")
        return obu[: start + length]
    return (
        bytes([first | _HAS_SIZE]) + obu[1:header] + write_leb128(len(obu) - header) + obu[header:]
    )


def starts_sequence(obus: list[bytes]) -> bool:
    """Can decoding begin here? A sequence header, then a key frame; `obus` as `with_size` returns them."""
    known = False
    for obu in obus:
        kind = obu[0] >> 3 & 15
        if kind == _SEQUENCE_HEADER:
            known = True
        elif kind in (_FRAME, _FRAME_HEADER):
            _, start = read_leb128(obu, 2 if obu[0] & _HAS_EXTENSION else 1)
            # show_existing_frame 0, frame_type 0 (AV1 section 5.9.2)
            return known and start < len(obu) and obu[start] >> 5 == 0
    return False


def read_leb128(data: bytes, position: int) -> tuple[int, int]:
    """A number (AV1 section 4.10.5), and where it ends.

    Raises:
        Av1Error: it is cut off or above 32 bits.
    """
    value = 0
    for shift in range(0, 56, 7):
        if position >= len(data):
            raise Av1Error("a length is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            if value >> 32:
                break
            return value, position
    raise Av1Error("a length is above 32 bits")


def write_leb128(value: int) -> bytes:
    """The shortest form."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
