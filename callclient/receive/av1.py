"""AV1 in RTP (AOM "RTP Payload Format for AV1", v1.0): packets to temporal units. Pure.

A packet holds OBU elements, whole OBUs or pieces of one. Decoders want the low-overhead bitstream format
(AV1 section 5.2), in which each OBU says how long it is: RTP leaves that out.
"""

from __future__ import annotations

from typing import Final

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


class Av1Picture:
    """A temporal unit, from the packets that have come; see `PictureParts`."""

    def __init__(self) -> None:
        self._obus: list[bytes] = []
        self._piece: bytearray | None = None
        """The OBU that is not complete yet."""

    @staticmethod
    def begins(payload: bytes) -> bool:
        return not payload[0] & _CONTINUES

    def add(self, payload: bytes) -> None:
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
            self._add_obu(element)

    def whole(self) -> tuple[bytes, bool] | None:
        if self._piece is not None or not self._obus:
            return None
        return _DELIMITER + b"".join(self._obus), starts_sequence(self._obus)

    def _end_piece(self) -> None:
        if self._piece is not None:
            self._add_obu(bytes(self._piece))
            self._piece = None

    def _add_obu(self, obu: bytes) -> None:
        if obu and obu[0] >> 3 & 15 not in _LEFT_OUT:
            self._obus.append(with_size(obu))


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
