"""What sender and receiver reports say: counters of one SSRC each (RFC 3550 section 6.4, A.1, A.3, A.8)."""

from __future__ import annotations

from foundation.newest import keep_newest
from rtc.rtcp import ReportBlock, build_sender_report

_NS = 1_000_000_000
_MAX_DROPOUT = 3000
"""A jump ahead of more packets than this is a restart, once the next packet confirms it (A.1)."""
_MAX_MISORDER = 100
_NO_BAD_SEQUENCE = -1
_REMEMBERED_REPORTS = 4


class ReceiveStatistics:
    """Loss and jitter of one received SSRC.

    Call `received` for each packet and `report` once a second; duplicates count as received, as the RFC
    wants it.
    """

    __slots__ = (
        "_bad_sequence",
        "_base",
        "_clock_rate_hz",
        "_expected_before",
        "_highest",
        "_jitter_16ths",
        "_received",
        "_received_before",
        "_report_arrival_ns",
        "_report_ntp",
        "_transit",
        "ssrc",
    )

    def __init__(self, ssrc: int, clock_rate_hz: int) -> None:
        self.ssrc = ssrc
        self._clock_rate_hz = clock_rate_hz
        self._report_ntp = self._report_arrival_ns = 0
        self._jitter_16ths = 0
        self._base: int | None = None
        self._highest = 0
        self._bad_sequence = _NO_BAD_SEQUENCE
        self._received = self._received_before = self._expected_before = 0
        self._transit: int | None = None

    @property
    def jitter_ticks(self) -> int:
        return self._jitter_16ths >> 4

    @property
    def jitter_ms(self) -> float:
        return self._jitter_16ths * 1000 / (16 * self._clock_rate_hz)

    @property
    def packets_received(self) -> int:
        """Since the start or the sender's restart."""
        return self._received

    @property
    def packets_lost(self) -> int:
        """Expected minus received, so below 0 after duplicates."""
        return 0 if self._base is None else self._highest - self._base + 1 - self._received

    def received(self, sequence: int, timestamp: int, arrival_ns: int) -> None:
        """Count one packet: the header's 16-bit sequence number and 32-bit timestamp, and when it came."""
        step = (sequence - self._highest) & 0xFFFF
        if self._base is None:
            self._restart(sequence)
        elif step < _MAX_DROPOUT:
            self._highest += step
        elif step <= 0x10000 - _MAX_MISORDER:
            if sequence != self._bad_sequence:
                self._bad_sequence = (sequence + 1) & 0xFFFF
                return
            self._restart(sequence)
        self._received += 1
        transit = arrival_ns * self._clock_rate_hz // _NS - timestamp
        if self._transit is not None:
            difference = (transit - self._transit) & 0xFFFFFFFF
            if difference >= 0x80000000:
                difference = 0x100000000 - difference
            # More than a second is a pause or a restart of the sender's clock, not jitter.
            if difference < self._clock_rate_hz:
                self._jitter_16ths += difference - ((self._jitter_16ths + 8) >> 4)
        self._transit = transit

    def sender_report(self, ntp: int, arrival_ns: int) -> None:
        """An SR of this SSRC came; the next reports refer to it."""
        self._report_ntp, self._report_arrival_ns = ntp, arrival_ns

    def report(self, now_ns: int) -> ReportBlock:
        """What happened since the last report."""
        expected = 0 if self._base is None else self._highest - self._base + 1
        expected_now = expected - self._expected_before
        lost_now = expected_now - (self._received - self._received_before)
        self._expected_before, self._received_before = expected, self._received
        fraction = 256 * lost_now // expected_now if lost_now > 0 and expected_now > 0 else 0
        lost = expected - self._received
        delay_ticks = 0
        if self._report_ntp:
            delay_ticks = ((now_ns - self._report_arrival_ns) << 16) // _NS
        return ReportBlock(
            ssrc=self.ssrc,
            fraction_lost=min(fraction, 255),
            packets_lost=max(-0x800000, min(lost, 0x7FFFFF)),
            highest_sequence=self._highest & 0xFFFFFFFF,
            jitter_ticks=self._jitter_16ths >> 4,
            last_sender_report=self._report_ntp >> 16 & 0xFFFFFFFF,
            delay_ticks=min(delay_ticks, 0xFFFFFFFF),
        )

    def _restart(self, sequence: int) -> None:
        self._base = self._highest = sequence
        self._bad_sequence = _NO_BAD_SEQUENCE
        self._received = self._received_before = self._expected_before = 0
        self._transit = None


class SendStatistics:
    """Counters of one sent SSRC, its sender reports and the round trip from the answers to them.

    The hot path adds to `packets` and `octets` itself. Where many receivers get the same packets, one
    object with the counters of the published track and one difference for each receiver is enough:
    `sender_report` takes the numbers.
    """

    __slots__ = ("_sent_reports", "fraction_lost", "octets", "packets", "packets_lost", "ssrc")

    def __init__(self, ssrc: int) -> None:
        self.ssrc = ssrc
        self.packets = 0
        self.octets = 0
        """Of payload: without headers and padding."""
        self.fraction_lost = 0.0
        """By the receiver's newest report, 0 to 1."""
        self.packets_lost = 0
        self._sent_reports: dict[int, int] = {}

    def sender_report(
        self,
        *,
        ntp: int,
        rtp_timestamp: int,
        now_ns: int,
        packets: int | None = None,
        octets: int | None = None,
    ) -> bytes:
        """An SR for the moment `ntp` (64 bits) = `rtp_timestamp`, sent at the monotonic `now_ns`.

        A forwarder passes on the publisher's own `ntp` with the timestamp rewritten, so that receivers
        can play sound and picture of one publisher together.
        """
        keep_newest(self._sent_reports, ntp >> 16 & 0xFFFFFFFF, now_ns, most=_REMEMBERED_REPORTS)
        return build_sender_report(
            ssrc=self.ssrc,
            ntp=ntp,
            rtp_timestamp=rtp_timestamp,
            packets=self.packets if packets is None else packets,
            octets=self.octets if octets is None else octets,
        )

    def reported(self, block: ReportBlock, now_ns: int) -> int | None:
        """Take a receiver's block on this SSRC; returns the round-trip time in ns.

        None: it refers to no report of ours that is still remembered. By our own note of when the
        report went out, so that steps of the wall clock do not matter.
        """
        self.fraction_lost = block.fraction_lost / 256
        self.packets_lost = block.packets_lost
        sent_ns = self._sent_reports.get(block.last_sender_report)
        if sent_ns is None:
            return None
        return max(0, now_ns - sent_ns - (block.delay_ticks * _NS >> 16))
