"""How long to wait for an acknowledgement (RFC 9260 section 6.3)."""

from __future__ import annotations

from rtc.sctp.timings import INITIAL_RTO_NS, MAX_RTO_NS, MIN_RTO_NS


class RetransmissionTimeout:
    """Smoothed round trip and its variation, with exponential back-off."""

    __slots__ = ("_estimated_ns", "_smoothed_ns", "_variation_ns", "ns")

    def __init__(self) -> None:
        self._smoothed_ns = 0
        self._variation_ns = 0
        self._estimated_ns = INITIAL_RTO_NS
        self.ns = INITIAL_RTO_NS
        """To wait now."""

    def measured(self, round_trip_ns: int) -> None:
        """Take a round trip of something that was sent once only (Karn)."""
        if self._smoothed_ns:
            error_ns = abs(self._smoothed_ns - round_trip_ns)
            self._variation_ns += (error_ns - self._variation_ns) // 4
            self._smoothed_ns += (round_trip_ns - self._smoothed_ns) // 8
        else:
            self._smoothed_ns = max(1, round_trip_ns)
            self._variation_ns = round_trip_ns // 2
        timeout_ns = self._smoothed_ns + 4 * self._variation_ns
        self.ns = self._estimated_ns = min(max(timeout_ns, MIN_RTO_NS), MAX_RTO_NS)

    def back_off(self) -> None:
        """It expired."""
        self.ns = min(2 * self.ns, MAX_RTO_NS)

    def progressed(self) -> None:
        """Something new was acknowledged, so the path is alive: no back-off, as TCP has it. With the RFC's,
        which lasts until the next measurement, some loss makes a path slow for long."""
        self.ns = self._estimated_ns
