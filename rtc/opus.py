"""What an Opus packet says of itself (RFC 6716 section 3)."""

from __future__ import annotations

CLOCK_RATE_HZ = 48_000
_FRAME_SAMPLES = (
    [480, 960, 1920, 2880] * 3  # SILK
    + [480, 960] * 2  # hybrid
    + [120, 240, 480, 960] * 4  # CELT
)


def packet_samples(packet: bytes) -> int:
    """Length of a packet in samples at 48 kHz; 0 when it is empty or broken."""
    if not packet:
        return 0
    toc = packet[0]
    match toc & 0x03:
        case 0:
            frames = 1
        case 1 | 2:
            frames = 2
        case _:
            frames = packet[1] & 0x3F if len(packet) > 1 else 0
    samples = _FRAME_SAMPLES[toc >> 3] * frames
    return samples if samples <= 5760 else 0


def has_redundancy(packet: bytes) -> bool:
    """Does the packet also hold the one before it (in-band FEC: LBRR, RFC 6716 section 4.2.4)?"""
    if not packet or packet[0] >> 3 >= 16:  # CELT only
        return False
    toc = packet[0]
    start = _first_frame(packet)
    if start >= len(packet):
        return False
    silk_frames = max(1, _FRAME_SAMPLES[toc >> 3] // 960)
    # The frame begins with its voice activity flags, then one for LBRR; a second channel has its own.
    flags = packet[start]
    if flags >> (7 - silk_frames) & 1:
        return True
    return bool(toc & 0x04) and bool(flags >> (6 - 2 * silk_frames) & 1)


def _first_frame(packet: bytes) -> int:
    """Where the first frame begins (section 3.2); the packet's length where there is none."""
    code, size = packet[0] & 0x03, len(packet)
    if code <= 1:
        return 1
    position = 1
    lengths = 1
    if code == 3:
        if size < 2 or not packet[1] & 0x3F:
            return size
        position = 2
        if packet[1] & 0x40:
            while position < size and packet[position] == 255:
                position += 1
            position += 1
        lengths = (packet[1] & 0x3F) - 1 if packet[1] & 0x80 else 0
    empty = False
    for index in range(lengths):
        if position >= size:
            return size
        empty = empty or (index == 0 and packet[position] == 0)
        position += 2 if packet[position] >= 252 else 1
    return size if empty else position
