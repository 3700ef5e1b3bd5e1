"""One SSRC of a published track: from its packets to everybody who gets them.

The hot path of the SFU: one header parse per packet, then the fan-out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rtc.fanout import Outlet, fan_out
from rtc.nack import NackGenerator
from rtc.rtcp import SenderReport
from rtc.rtp import header_extension, level_and_number
from rtc.statistics import ReceiveStatistics
from rtc.transport_cc import FeedbackBuilder
from sfu.forwarding.history import PacketHistory
from sfu.forwarding.rate_monitor import RateMonitor
from sfu.forwarding.rewriter import DROPPED, SequenceRewriter
from sfu.forwarding.tracks import CLOCK_RATES_HZ, UpTrack
from sfu.forwarding.vp8_rewriter import Vp8Ids, read_vp8_ids

if TYPE_CHECKING:
    from sfu.forwarding.down_track import DownTrack

KEY_FRAME_INTERVAL_NS = 1_000_000_000
"""At most one PLI a second goes to a publisher for each of its SSRCs (rtcd.md 3.8)."""
KEY_FRAME_OWED_NS = 2_500_000_000
"""After the last PLI a newcomer whose own came too early gets its key frame, if there was none since.

Receivers that repeat their request are served before; this is for those that do not.
"""
MAX_PAYLOAD_BYTES = 1500
_TIMED_EVERY = 64
"""Of so many packets one is timed for the metric."""
_ONE_BYTE_ELEMENTS = 0xBEDE


class Encoding:
    """Made with the first packet of its SSRC."""

    __slots__ = (
        "_asked_ns",
        "_counted",
        "_feedback",
        "_key_frame_owed",
        "_level_id",
        "_number_id",
        "_on_level",
        "_outlets",
        "_request_key_frame",
        "_rewriter",
        "heard_ns",
        "history",
        "malformed",
        "nacks",
        "newest_ns",
        "newest_timestamp",
        "octets",
        "packets",
        "payload_type",
        "rate",
        "report",
        "report_arrival_ns",
        "rid",
        "ssrc",
        "statistics",
        "too_fast",
        "track",
    )

    def __init__(
        self,
        track: UpTrack,
        *,
        ssrc: int,
        rid: str,
        payload_type: int,
        level_id: int | None,
        number_id: int | None,
        history_packets: int,
        feedback: FeedbackBuilder | None,
        on_level: Callable[[int, int], None] | None,
        request_key_frame: Callable[[int], None],
    ) -> None:
        """`payload_type`, `level_id`, `number_id`: the publisher's; `on_level(level, arrival_ns)`."""
        self.track = track
        self.ssrc = ssrc
        self.rid = rid
        is_video = track.kind == "video"
        self.statistics = ReceiveStatistics(ssrc, CLOCK_RATES_HZ[track.codec])
        self.nacks = NackGenerator() if is_video else None
        self.history = PacketHistory(history_packets) if is_video else None
        self.rate = RateMonitor(2 if rid == "h" else 5) if track.layered else None
        self.report: SenderReport | None = None
        """The publisher's newest one."""
        self.report_arrival_ns = 0
        self.newest_ns = 0
        """Arrival of the newest packet that was forwarded."""
        self.newest_timestamp = 0
        self.packets = 0
        self.heard_ns = 0
        """Arrival of the newest packet."""
        self.octets = 0
        """Of whole packets, decrypted."""
        self.malformed = 0
        self.too_fast = 0
        """Packets beyond the track's bit rate."""
        self._counted = 0, 0, 0, 0
        self._level_id = -1 if level_id is None else level_id
        self._number_id = -1 if number_id is None else number_id
        self._feedback = feedback
        self._on_level = on_level
        self._outlets: list[Outlet] = []
        # Closes the holes that mutes leave, so that no receiver takes them for loss.
        self._rewriter: SequenceRewriter | None = None
        self._request_key_frame = request_key_frame
        self.payload_type = payload_type
        self._asked_ns = -KEY_FRAME_INTERVAL_NS
        self._key_frame_owed = False

    def receive(self, packet: bytes, arrival_ns: int) -> None:
        """Take one decrypted packet of this SSRC; what is malformed is counted and dropped."""
        self.packets += 1
        self.octets += len(packet)
        self.heard_ns = arrival_ns
        bit_rate = self.track.bit_rate
        if bit_rate is not None and not bit_rate.take(arrival_ns, len(packet)):
            # Told to nobody, not even as arrived: its sender takes that for a full link, and slows down.
            self.too_fast += 1
            return
        if len(packet) < 12:
            self.malformed += 1
            return
        first, second = packet[0], packet[1]
        if second & 0x7F != self.payload_type:
            self.malformed += 1  # no codec of this track: the receivers could not know
            return
        sequence = packet[2] << 8 | packet[3]
        timestamp = int.from_bytes(packet[4:8], "big")
        start = 12 + ((first & 15) << 2)
        level = -1
        try:
            if first & 0x10:
                elements = start + 4
                start = elements + (packet[start + 2] << 10 | packet[start + 3] << 2)
                if start <= len(packet):
                    level, number = self._read_extensions(packet, elements, start)
                    if number >= 0 and self._feedback is not None:
                        self._feedback.record(number, arrival_ns)
        except IndexError:
            start = len(packet) + 1
        if start > len(packet) or len(packet) - start > MAX_PAYLOAD_BYTES:
            self.malformed += 1
            return
        self.statistics.received(sequence, timestamp, arrival_ns)
        if level >= 0 and self._on_level is not None and self.track.enabled:
            self._on_level(level, arrival_ns)  # who is muted does not speak, whatever is sent
        if self.track.layered:
            self._forward_layer(packet, start, sequence, timestamp, arrival_ns)
            return
        track = self.track
        if self.history is not None:
            self.nacks.received(sequence, arrival_ns)  # type: ignore[union-attr]  # has one if it has a history
            self.history.put(sequence, packet)
            if self._key_frame_owed and track.codec == "VP8":
                ids = read_vp8_ids(packet, start, len(packet))
                self._key_frame_owed = ids is None or not ids.key_frame_start
        else:
            rewriter = self._rewriter
            if rewriter is None:
                rewriter = self._rewriter = SequenceRewriter(
                    clock_rate_hz=48_000, ssrc=self.ssrc, sequence=sequence, timestamp=timestamp
                )
            if not track.enabled:
                rewriter.drop(sequence)
                return
            mapped = rewriter.map(sequence, timestamp)
            if mapped == DROPPED:
                return
            sequence, timestamp = mapped >> 32, mapped & 0xFFFFFFFF
        self.newest_ns, self.newest_timestamp = arrival_ns, timestamp
        timed = track.write_times is not None and self.packets % _TIMED_EVERY == 0
        started_ns = time.perf_counter_ns() if timed else 0
        fan_out(
            self._outlets,
            packet[start:],
            first=0x80 | first & 0x20,
            marker=second & 0x80,
            sequence=sequence,
            timestamp=timestamp,
            level=level,
        )
        if timed and self._outlets and track.write_times is not None:
            elapsed_s = (time.perf_counter_ns() - started_ns) / 1e9 / len(self._outlets)
            track.write_times.observe(elapsed_s, _TIMED_EVERY * len(self._outlets))

    def take_counts(self) -> tuple[int, int, int, int]:
        """(packets, bytes, malformed packets, packets beyond the bit rate) since the last call."""
        packets, octets, malformed, too_fast = self._counted
        self._counted = self.packets, self.octets, self.malformed, self.too_fast
        return (
            self.packets - packets,
            self.octets - octets,
            self.malformed - malformed,
            self.too_fast - too_fast,
        )

    def subscribed(self, down: DownTrack) -> None:
        """A receiver was added to the track."""
        if not self.track.layered:
            self._outlets.append(down.outlet)

    def unsubscribed(self, down: DownTrack) -> None:
        if down.outlet in self._outlets:
            self._outlets.remove(down.outlet)

    def request_key_frame(self, now_ns: int) -> None:
        """Ask the publisher, unless it was asked within the last second."""
        if now_ns - self._asked_ns >= KEY_FRAME_INTERVAL_NS:
            self._asked_ns = now_ns
            self._key_frame_owed = False
            self._request_key_frame(self.ssrc)

    def owe_key_frame(self, now_ns: int) -> None:
        """For a newcomer: ask now, or later if that is too early and none comes by itself."""
        self._key_frame_owed = True
        self.request_key_frame(now_ns)

    def tick(self, now_ns: int) -> None:
        """Every 100 ms."""
        if self._key_frame_owed and now_ns - self._asked_ns >= KEY_FRAME_OWED_NS:
            self.request_key_frame(now_ns)

    def sender_report(self, report: SenderReport, arrival_ns: int) -> None:
        """The publisher told which RTP time is which moment."""
        self.report, self.report_arrival_ns = report, arrival_ns
        self.statistics.sender_report(report.ntp, arrival_ns)

    def rate_bps(self, now_ns: int) -> int:
        """Measured, of a layer; -1 while it is not known."""
        return -1 if self.rate is None else self.rate.rate_bps(now_ns)

    def _forward_layer(
        self, packet: bytes, start: int, sequence: int, timestamp: int, arrival_ns: int
    ) -> None:
        assert self.history is not None
        assert self.nacks is not None
        assert self.rate is not None
        self.newest_ns, self.newest_timestamp = arrival_ns, timestamp
        self.nacks.received(sequence, arrival_ns)
        self.history.put(sequence, packet)
        self.rate.push(len(packet), arrival_ns)
        end = len(packet) - packet[-1] if packet[0] & 0x20 else len(packet)
        ids: Vp8Ids | None = None
        if self.track.codec == "VP8":
            ids = read_vp8_ids(packet, start, end)
            if ids is not None and ids.key_frame_start:
                self.nacks.key_frame(sequence)
                self._key_frame_owed = False
        for down in self.track.downs:
            down.layer_packet(self, packet, start, sequence, timestamp, ids, arrival_ns)

    def _read_extensions(self, packet: bytes, position: int, end: int) -> tuple[int, int]:
        """(audio level, transport-wide number), -1 for what is not there."""
        if packet[position - 4] << 8 | packet[position - 3] == _ONE_BYTE_ELEMENTS:
            return level_and_number(packet, position, end, self._level_id, self._number_id)
        level = header_extension(packet, self._level_id)
        number = header_extension(packet, self._number_id)
        return level[0] if level else -1, int.from_bytes(number[:2]) if number else -1
