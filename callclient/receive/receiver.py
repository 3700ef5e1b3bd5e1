"""Everything of one received SSRC: order, loss, repair requests, reports, frames."""

from __future__ import annotations

from callclient.receive.depacketize import depacketizer_for
from callclient.receive.jitter import BufferedPacket, JitterBuffer
from callclient.receive.tracks import Codec, RemoteTrack
from rtc.rtp import ReportBlock, RtpHeader, Unwrapper

_CLOCK_RATE_HZ = {Codec.OPUS: 48_000, Codec.VP8: 90_000}
_NS = 1_000_000_000


class TrackReceiver:
    """Feeds one RemoteTrack. Called in the socket's callback and by a timer."""

    def __init__(self, track: RemoteTrack, *, ssrc: int, max_wait_ns: int) -> None:
        self.track = track
        self.ssrc = ssrc
        self._jitter_buffer = JitterBuffer(max_wait_ns=max_wait_ns)
        self._depacketizer = depacketizer_for(track.codec)
        self._reception = ReceptionStatistics(_CLOCK_RATE_HZ[track.codec])

    def packet_received(self, packet: bytes, header: RtpHeader, arrival_ns: int) -> None:
        self.track.statistics.packets_received += 1
        self._reception.packet_received(header, arrival_ns)
        payload = packet[header.payload_start : header.payload_end]
        self._deliver(self._jitter_buffer.push(header, payload, arrival_ns))

    def tick(self, now_ns: int) -> list[int]:
        """Give up what is overdue; returns sequence numbers to ask for again (video only)."""
        self._deliver(self._jitter_buffer.give_up(now_ns))
        statistics, buffer = self.track.statistics, self._jitter_buffer
        statistics.packets_lost = buffer.lost
        statistics.packets_late = buffer.late
        statistics.packets_duplicate = buffer.duplicate
        statistics.jitter_ms = self._reception.jitter_ms
        return [] if self.track.source.is_audio else buffer.wanted(now_ns)

    def finish(self) -> None:
        """Deliver what still waits: nothing more will come."""
        self._deliver(self._jitter_buffer.release_all())

    def report(self) -> ReportBlock:
        """What happened since the last report."""
        return self._reception.report(self.ssrc)

    def _deliver(self, packets: list[BufferedPacket]) -> None:
        for packet in packets:
            frame = self._depacketizer.push(packet)
            if frame is not None:
                self.track.deliver(frame)


class ReceptionStatistics:
    """Loss and jitter as receiver reports want them (RFC 3550 sections 6.4.1 and A.8)."""

    def __init__(self, clock_rate_hz: int) -> None:
        self._clock_rate_hz = clock_rate_hz
        self._unwrapper = Unwrapper(16)
        self._first: int | None = None
        self._highest = 0
        self._received = 0
        self._expected_before = self._received_before = 0
        self._last_transit: int | None = None
        self._jitter_ticks = 0.0

    @property
    def jitter_ms(self) -> float:
        return self._jitter_ticks * 1000 / self._clock_rate_hz

    def packet_received(self, header: RtpHeader, arrival_ns: int) -> None:
        sequence = self._unwrapper.unwrap(header.sequence)
        if self._first is None:
            self._first = self._highest = sequence
        self._highest = max(self._highest, sequence)
        self._received += 1
        transit = arrival_ns * self._clock_rate_hz // _NS - header.timestamp
        if self._last_transit is not None:
            difference = abs(transit - self._last_transit) & 0xFFFFFFFF
            if difference < self._clock_rate_hz:  # more than a second is a new start, not jitter
                self._jitter_ticks += (difference - self._jitter_ticks) / 16
        self._last_transit = transit

    def report(self, ssrc: int) -> ReportBlock:
        expected = self._highest - (self._first or 0) + 1 if self._first is not None else 0
        expected_now = expected - self._expected_before
        lost_now = expected_now - (self._received - self._received_before)
        self._expected_before, self._received_before = expected, self._received
        fraction = 256 * lost_now // expected_now if expected_now > 0 and lost_now > 0 else 0
        return ReportBlock(
            ssrc=ssrc,
            fraction_lost=min(fraction, 255),
            packets_lost=max(0, expected - self._received),
            highest_sequence=self._highest,
            jitter_ticks=round(self._jitter_ticks),
        )
