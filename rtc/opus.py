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
