"""Numbers that wrap around on the wire (RFC 9260 section 1.6); inside, TSNs are plain growing integers."""

from __future__ import annotations

MASK_32 = 0xFFFF_FFFF
MASK_16 = 0xFFFF
_HALF_32 = 1 << 31


def unwrap_32(wire: int, near: int) -> int:
    """The integer nearest to `near` that has `wire` as its low 32 bits; may be negative."""
    ahead = (wire - near) & MASK_32
    return near + ahead if ahead < _HALF_32 else near + ahead - (1 << 32)
