"""What one participant receives: every packet counted by its stamp, nothing kept of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Set
from typing import Any, Final

from rtc.rtcp import ReportBlock, build_nack
from rtc.rtp import RTP_HEADER_BYTES, header_extension
from rtc.transport_cc import FeedbackBuilder
from sfu.loadtest.histogram import Histogram
from sfu.loadtest.stamp import MAGIC, SCREEN, STAMP, STAMP_BYTES, Window, kind_of

_MISSING_LIMIT: Final = 4096
_NACK_TRIES: Final = 10
_NACKS_AT_ONCE: Final = 100
_read_stamp = STAMP.unpack_from


class ReceivedTrack:
    """The books of one track at one receiver."""

    __slots__ = (
        "bytes",
        "duplicates",
        "first_sequence",
        "missing",
        "next_sequence",
        "packets",
        "reordered",
        "rtp_base",
        "ssrc",
        "track",
    )

    def __init__(self, track: int, sequence: int, packet: bytes) -> None:
        self.track = track
        rtp_sequence, self.ssrc = struct.unpack_from("!H4xI", packet, 2)
        self.rtp_base = rtp_sequence - sequence
        self.first_sequence = self.next_sequence = sequence
        self.packets = self.bytes = 0
        """In the window, each packet once."""
        self.duplicates = self.reordered = 0
        """Since the first packet."""
        self.missing: dict[int, list[int]] = {}
        """Stamped sequence number to RTP sequence number and how often it was asked for."""

    def out_of_order(self, sequence: int, packet: bytes) -> bool:
        """Any packet but the next one; False when it was there before."""
        ahead = sequence - self.next_sequence
        if ahead >= 0:
            rtp_sequence, self.ssrc = struct.unpack_from("!H4xI", packet, 2)
            self.rtp_base = rtp_sequence - sequence
            first_missing = max(self.next_sequence, sequence - _MISSING_LIMIT)
            for missed in range(first_missing, sequence):
                self.missing[missed] = [(rtp_sequence - (sequence - missed)) & 0xFFFF, 0]
            while len(self.missing) > _MISSING_LIMIT:
                del self.missing[next(iter(self.missing))]
            self.next_sequence = sequence + 1
            return True
        if self.missing.pop(sequence, None) is not None:
            self.reordered += 1
            return True
        if sequence < self.first_sequence:
            for missed in range(max(sequence + 1, self.first_sequence - 64), self.first_sequence):
                self.missing[missed] = [0, _NACK_TRIES]
            self.first_sequence = sequence
            self.reordered += 1
            return True
        self.duplicates += 1
        return False

    def report_block(self) -> ReportBlock:
        """For a receiver report; loss is left out, repair is asked for by NACK."""
        highest = (self.rtp_base + self.next_sequence - 1) & 0xFFFFFFFF
        return ReportBlock(self.ssrc, 0, 0, highest, 0)

    def to_nack(self) -> list[int]:
        """RTP sequence numbers to ask for now, each at most ten times."""
        wanted = [entry for entry in self.missing.values() if entry[1] < _NACK_TRIES]
        for entry in wanted[:_NACKS_AT_ONCE]:
            entry[1] += 1
        return [entry[0] for entry in wanted[:_NACKS_AT_ONCE]]


class Receiver:
    """All tracks of one participant. `packet_received` is the hot path of the tool."""

    def __init__(
        self,
        *,
        expected: Set[int],
        window: Window,
        delays: Histogram,
        delay_every: int,
        on_first: Callable[[int, int, int], None],
    ) -> None:
        """`on_first(track, started_ns, arrival_ns)` for the first packet of each track."""
        self.tracks: dict[int, ReceivedTrack] = {}
        self._expected = expected
        self._window = window
        self._delays = delays
        self._delay_every = delay_every
        self._on_first = on_first
        self.foreign = 0
        """Packets without our stamp."""
        self.misdelivered = 0
        """Packets of tracks that this participant must not get: its own, or of another call."""
        self.feedback: FeedbackBuilder | None = None
        """Set when transport-wide sequence numbers are negotiated, see `report_arrivals`."""
        self._transport_seq_head = -1

    def report_arrivals(self, extension_id: int) -> None:
        """From now on keep the transport-wide sequence numbers for feedback."""
        self.feedback = FeedbackBuilder(sender_ssrc=1)
        self._transport_seq_head = extension_id << 4 | 1

    def packet_received(self, packet: bytes, arrival_ns: int) -> None:
        """One decrypted RTP packet."""
        try:
            magic, number, sequence, sent_ns, started_ns = _read_stamp(packet, -STAMP_BYTES)
        except struct.error:
            self.foreign += 1
            return
        if magic != MAGIC or len(packet) < RTP_HEADER_BYTES + STAMP_BYTES:
            self.foreign += 1
            return
        if self.feedback is not None and packet[0] & 0x10:
            # Mostly the first element of the block; what stands elsewhere is rare enough to search.
            if packet[16] == self._transport_seq_head:
                self.feedback.record(packet[17] << 8 | packet[18], arrival_ns)
            else:
                value = header_extension(packet, self._transport_seq_head >> 4)
                if value is not None and len(value) == 2:
                    self.feedback.record(value[0] << 8 | value[1], arrival_ns)
        track = self.tracks.get(number)
        if track is None:
            if number not in self._expected:
                self.misdelivered += 1
                return
            track = self.tracks[number] = ReceivedTrack(number, sequence, packet)
            if self.feedback is not None:
                self.feedback.media_ssrc = int.from_bytes(packet[8:12], "big")
            self._on_first(number, started_ns, arrival_ns)
        if sequence == track.next_sequence:
            track.next_sequence = sequence + 1
        elif not track.out_of_order(sequence, packet):
            return
        window = self._window
        if window.start_ns <= sent_ns < window.end_ns:
            track.packets += 1
            track.bytes += len(packet)
            if not sequence % self._delay_every:
                self._delays.record(arrival_ns - sent_ns)

    def nacks(self) -> list[bytes]:
        """RTCP for what of the video is missing now."""
        found = []
        for track in self.tracks.values():
            if track.missing and kind_of(track.track) == SCREEN:
                sequences = track.to_nack()
                if sequences:
                    found.append(
                        build_nack(sender_ssrc=1, media_ssrc=track.ssrc, sequences=sequences)
                    )
        return found

    def totals(self) -> dict[int, dict[str, Any]]:
        """By track, for the report."""
        return {
            number: {
                "packets": track.packets,
                "bytes": track.bytes,
                "duplicates": track.duplicates,
                "reordered": track.reordered,
            }
            for number, track in self.tracks.items()
        }
