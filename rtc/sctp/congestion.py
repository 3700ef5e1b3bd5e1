"""The congestion window of the one path (RFC 9260 section 7.2)."""

from __future__ import annotations

from typing import Final

from rtc.sctp.timings import MAX_PACKET_BYTES, SEND_BUFFER_BYTES

_MTU: Final = MAX_PACKET_BYTES
_INITIAL_BYTES: Final = 10 * _MTU
"""RFC 9260 has about 4 packets; browsers start with 10, as TCP does since RFC 6928."""
_MIN_THRESHOLD_BYTES: Final = 4 * _MTU


class CongestionWindow:
    """Slow start, congestion avoidance, one halving per loss event."""

    __slots__ = ("_partial_bytes", "_recovery_until", "_threshold_bytes", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = _INITIAL_BYTES
        self._threshold_bytes = SEND_BUFFER_BYTES
        self._partial_bytes = 0
        self._recovery_until: int | None = None

    @property
    def recovering(self) -> bool:
        return self._recovery_until is not None

    def acknowledged(self, cumulative: int, acked_bytes: int, flight_bytes: int) -> None:
        """The cumulative TSN moved to `cumulative`; `flight_bytes` as it was before."""
        if self._recovery_until is not None:
            if cumulative < self._recovery_until:
                return
            self._recovery_until = None
        if flight_bytes + _MTU <= self.size_bytes:
            return  # the window was not what held us up, so nothing is learnt about it
        if self.size_bytes <= self._threshold_bytes:
            self.size_bytes += min(acked_bytes, _MTU)
        else:
            self._partial_bytes += acked_bytes
            if self._partial_bytes >= self.size_bytes:
                self._partial_bytes -= self.size_bytes
                self.size_bytes += _MTU
        self.size_bytes = min(self.size_bytes, SEND_BUFFER_BYTES)

    def lost(self, newest_sent: int) -> None:
        """Some packets are missing (fast retransmit); counts once until `newest_sent` is acknowledged."""
        if self._recovery_until is None:
            self._halve()
            self.size_bytes = self._threshold_bytes
            self._recovery_until = newest_sent

    def expired(self) -> None:
        """Nothing came back in time: start again with one packet."""
        self._halve()
        self.size_bytes = _MTU
        self._recovery_until = None

    def idled(self, intervals: int) -> None:
        """Nothing was sent for so many RTOs: what was known of the path is old."""
        if self.size_bytes > _INITIAL_BYTES:
            self.size_bytes = max(_INITIAL_BYTES, self.size_bytes >> min(intervals, 16))

    def _halve(self) -> None:
        self._threshold_bytes = max(self.size_bytes // 2, _MIN_THRESHOLD_BYTES)
        self._partial_bytes = 0
