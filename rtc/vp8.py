"""VP8 in RTP (RFC 7741): cut frames into packets and put them together again."""

from __future__ import annotations

_MAX_PAYLOAD_BYTES = 1150


def packetize(frame: bytes, *, picture_id: int) -> list[bytes]:
    """RTP payloads of one frame, in order; the last one belongs into a packet with the marker bit.

    `picture_id` is 15 bits and grows by one with each frame.
    """
    payloads = []
    for position in range(0, len(frame), _MAX_PAYLOAD_BYTES):
        start = 0x10 if position == 0 else 0
        descriptor = bytes([0x80 | start, 0x80]) + (0x8000 | picture_id & 0x7FFF).to_bytes(2)
        payloads.append(descriptor + frame[position : position + _MAX_PAYLOAD_BYTES])
    return payloads


def descriptor_length(payload: bytes) -> int:
    """Bytes of the payload descriptor (section 4.2).

    Raises:
        ValueError: the payload is too short to hold one.
    """
    if not payload:
        raise ValueError("VP8 payload is empty")
    length = 1
    if payload[0] & 0x80:
        if len(payload) < 2:
            raise ValueError("VP8 payload descriptor is cut off")
        extension = payload[1]
        length += 1
        if extension & 0x80:
            if len(payload) <= length:
                raise ValueError("VP8 payload descriptor is cut off")
            length += 2 if payload[length] & 0x80 else 1
        if extension & 0x40:
            length += 1
        if extension & 0x30:
            length += 1
    if len(payload) < length:
        raise ValueError("VP8 payload descriptor is cut off")
    return length


def starts_frame(payload: bytes) -> bool:
    """Is this the first packet of a frame: start of partition 0?"""
    return bool(payload) and bool(payload[0] & 0x10) and payload[0] & 0x0F == 0


def is_key_frame(frame: bytes) -> bool:
    """By the frame tag's lowest bit (RFC 6386 section 9.1)."""
    return len(frame) >= 3 and not frame[0] & 0x01
