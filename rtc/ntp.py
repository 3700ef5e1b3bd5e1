"""NTP timestamps, as sender reports carry them (RFC 3550 section 4)."""

from __future__ import annotations

_NTP_EPOCH_OFFSET_S = 2_208_988_800
_NS = 1_000_000_000


def ntp_from_unix(unix_time_ns: int) -> int:
    """64-bit NTP time of a moment after 1970."""
    seconds, nanoseconds = divmod(unix_time_ns, _NS)
    return (seconds + _NTP_EPOCH_OFFSET_S) << 32 | (nanoseconds << 32) // _NS


def unix_from_ntp(ntp: int) -> int:
    """Nanoseconds since 1970; below 0 for times before."""
    return ((ntp >> 32) - _NTP_EPOCH_OFFSET_S) * _NS + ((ntp & 0xFFFFFFFF) * _NS >> 32)
