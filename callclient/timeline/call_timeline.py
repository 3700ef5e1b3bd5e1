"""One time for everything in a call: every packet of every track on the host's monotonic clock.

The SFU's sender reports are in its own clock, or in its publishers' clocks shifted to it. How far that is
from ours is one number for the whole connection, told by the reports that travelled fastest.
"""

from __future__ import annotations

from typing import Final

from callclient.timeline.floor import Floor
from callclient.timeline.source_clock import SourceClock
from rtc.ntp import unix_from_ntp
from rtc.rtcp import SenderReport

_NS: Final = 1_000_000_000
_BUCKET_NS: Final = 10 * _NS
_BUCKETS: Final = 4
_STEP_NS: Final = _NS
"""Farther off than this is a step of the SFU's wall clock: begin anew."""


class CallTimeline:
    """Made once for each connection to an SFU. Zero is the host's; jobs subtract the recording's start."""

    def __init__(self) -> None:
        self._shift: Floor | None = None

    def clock(
        self,
        clock_rate_hz: int,
        *,
        is_audio: bool,
        settle_ns: int = 0,
        not_before_ns: int = 0,
    ) -> SourceClock:
        """A clock for one SSRC; see there."""
        return SourceClock(
            clock_rate_hz, is_audio=is_audio, settle_ns=settle_ns, not_before_ns=not_before_ns
        )

    def sender_report(self, clock: SourceClock, report: SenderReport, arrival_ns: int) -> None:
        """A report on the SSRC of `clock` came."""
        if report.ntp == 0:  # the sender has no wall clock (RFC 3550 section 6.4.1)
            return
        sent_ns = unix_from_ntp(report.ntp)
        shift_ns = arrival_ns - sent_ns
        if self._shift is None or abs(shift_ns - self._shift.value) > _STEP_NS:
            self._shift = Floor(shift_ns, arrival_ns, bucket_ns=_BUCKET_NS, buckets=_BUCKETS)
        else:
            self._shift.observe(shift_ns, arrival_ns)
        clock.reported(report.rtp_timestamp, sent_ns + self._shift.value, arrival_ns)
