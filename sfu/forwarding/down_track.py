"""One receiver's copy of a published track: its numbers, its simulcast layer, its repetitions."""

from __future__ import annotations

from rtc.fanout import Outlet, fan_out
from rtc.sections import Section
from rtc.statistics import SendStatistics
from sfu.forwarding.encoding import Encoding
from sfu.forwarding.layers import Layer, LayerSelector
from sfu.forwarding.rewriter import DROPPED, SequenceRewriter, translate_timestamp
from sfu.forwarding.tracks import CLOCK_RATES_HZ, UpTrack
from sfu.forwarding.vp8_rewriter import Vp8Ids, Vp8Rewriter, read_vp8_ids

_LATE_NS = 500_000_000
"""How long after a switch packets of the layer before may still come."""


class DownTrack:
    """Made by a subscription; `outlet` is complete once the receiver has answered."""

    __slots__ = (
        "_counted",
        "_last_arrival_ns",
        "_last_ids",
        "_previous",
        "_repeated_counts",
        "_rewriter",
        "_statistics",
        "_switched_ns",
        "_vp8",
        "current",
        "outlet",
        "section",
        "selector",
        "up",
    )

    def __init__(self, *, up: UpTrack, section: Section, outlet: Outlet, layer: Layer) -> None:
        """`layer`: the one to begin with; counts for tracks with simulcast only."""
        self.up = up
        self.section = section
        self.outlet = outlet
        self.selector = LayerSelector(layer)
        self.current: Encoding | None = None
        """Where packets come from now; None before the first key frame, and without simulcast."""
        self._counted = self._repeated_counts = 0, 0
        self._rewriter: SequenceRewriter | None = None
        self._vp8 = Vp8Rewriter()
        self._last_ids: Vp8Ids | None = None
        self._last_arrival_ns = 0
        self._previous: Encoding | None = None
        self._switched_ns = 0
        self._statistics = SendStatistics(outlet.ssrc)

    @property
    def wanted(self) -> Encoding | None:
        """The encoding of the selected layer, or the only one there is."""
        encodings = self.up.encodings
        if not self.up.layered:
            return next(iter(encodings.values()), None)
        return encodings.get(self.selector.layer.value) or next(iter(encodings.values()), None)

    def request_key_frame(self, now_ns: int) -> None:
        """Of what the receiver gets, or is to get."""
        encoding = self.wanted
        if encoding is not None and self.up.kind == "video":
            encoding.request_key_frame(now_ns)

    def begin(self, now_ns: int) -> None:
        """Forwarding has begun: without a key frame there is nothing to show."""
        encoding = self.wanted
        if encoding is not None and self.up.kind == "video":
            encoding.owe_key_frame(now_ns)

    def layer_packet(
        self,
        encoding: Encoding,
        packet: bytes,
        start: int,
        sequence: int,
        timestamp: int,
        ids: Vp8Ids | None,
        arrival_ns: int,
    ) -> None:
        """A packet of one of the layers came: send it on if it is of ours, or the start of ours."""
        rewriter = self._rewriter
        if encoding is self.current and rewriter is not None:
            if ids is None and self.up.codec == "VP8":
                rewriter.drop(sequence)  # padding only: nothing to decode
                return
            mapped = rewriter.map(sequence, timestamp)
        elif encoding is not self.wanted or (
            self.up.codec == "VP8" and (ids is None or not ids.key_frame_start)
        ):
            if encoding is self._previous and arrival_ns - self._switched_ns < _LATE_NS:
                self._send_late(encoding, packet, start, sequence, timestamp, ids)
            return
        else:
            rewriter = self._start(encoding, sequence, timestamp, ids, arrival_ns)
            mapped = rewriter.map(sequence, timestamp)
        if mapped == DROPPED:
            return
        if mapped >> 32 == (rewriter.next_sequence - 1) & 0xFFFF:  # not a late one
            self._last_ids, self._last_arrival_ns = ids, arrival_ns
        self._send(packet, start, mapped, ids, generation=None)

    def repeat(self, sequence: int) -> bool:
        """Answer a NACK from the publisher's history; False: it is gone from there and stays lost."""
        packets, octets = self.outlet.packets, self.outlet.octets
        again = self._repeat(sequence)
        self._repeated_counts = (
            self._repeated_counts[0] + self.outlet.packets - packets,
            self._repeated_counts[1] + self.outlet.octets - octets,
        )
        return again

    def take_counts(self) -> tuple[int, int]:
        """(packets, payload bytes) to the receiver since the last call, repetitions left out."""
        packets, octets = self._counted
        repeated_packets, repeated_octets = self._repeated_counts
        self._counted = (
            self.outlet.packets - repeated_packets,
            self.outlet.octets - repeated_octets,
        )
        return self._counted[0] - packets, self._counted[1] - octets

    def sender_report(self, now_ns: int, now_ntp: int) -> bytes | None:
        """RTCP SR, once a second; None before there is something to report.

        The publisher's own relation of NTP and RTP time where it tells one, so that a receiver can play
        its sound and picture together; otherwise the moment when the newest packet came.
        """
        encoding = self.current if self.up.layered else self.wanted
        if encoding is None or not self.outlet.packets:
            return None
        if encoding.report is not None:
            ntp = self.up.publisher_ntp(encoding.report.ntp)
            timestamp = encoding.report.rtp_timestamp
        else:
            elapsed_ns = max(0, now_ns - encoding.newest_ns)
            ntp = now_ntp - (elapsed_ns << 32) // 1_000_000_000
            timestamp = encoding.newest_timestamp
        if self._rewriter is not None:
            timestamp = (timestamp + self._rewriter.timestamp_offset) & 0xFFFFFFFF
        return self._statistics.sender_report(
            ntp=ntp,
            rtp_timestamp=timestamp,
            now_ns=now_ns,
            packets=self.outlet.packets & 0xFFFFFFFF,
            octets=self.outlet.octets & 0xFFFFFFFF,
        )

    def _start(
        self,
        encoding: Encoding,
        sequence: int,
        timestamp: int,
        ids: Vp8Ids | None,
        arrival_ns: int,
    ) -> SequenceRewriter:
        """Begin with an encoding, or move to it."""
        rewriter = self._rewriter
        if rewriter is None:
            rewriter = self._rewriter = SequenceRewriter(
                clock_rate_hz=CLOCK_RATES_HZ[self.up.codec],
                ssrc=encoding.ssrc,
                sequence=sequence,
                timestamp=timestamp,
            )
        else:
            rewriter.switch(
                encoding.ssrc,
                sequence,
                timestamp,
                elapsed_ns=max(0, arrival_ns - self._last_arrival_ns),
                same_moment=self._on_current_clock(encoding, timestamp),
            )
            if ids is not None and self._last_ids is not None:
                self._vp8.switch(self._last_ids, ids)
            self._previous, self._switched_ns = self.current, arrival_ns
        self.current = encoding
        return rewriter

    def _send_late(
        self,
        encoding: Encoding,
        packet: bytes,
        start: int,
        sequence: int,
        timestamp: int,
        ids: Vp8Ids | None,
    ) -> None:
        """A packet of the layer that was left, from before the switch: it goes where it belongs."""
        assert self._rewriter is not None
        mapped = self._rewriter.map_late(encoding.ssrc, sequence, timestamp)
        if mapped != DROPPED:
            self._send(packet, start, mapped, ids, self._rewriter.generation - 1)

    def _on_current_clock(self, encoding: Encoding, timestamp: int) -> int | None:
        """`timestamp` of `encoding` as the current one would have counted it, if both have told."""
        current = self.current
        if current is None or current.report is None or encoding.report is None:
            return None
        return translate_timestamp(
            timestamp,
            source=encoding.report,
            target=current.report,
            clock_rate_hz=CLOCK_RATES_HZ[self.up.codec],
        )

    def _send(
        self, packet: bytes, start: int, mapped: int, ids: Vp8Ids | None, generation: int | None
    ) -> bool:
        payload: bytes | memoryview = packet[start:]
        if self._vp8.active and ids is not None:
            rewritten = bytearray(payload)
            if not self._vp8.apply(memoryview(rewritten), 0, ids, generation):
                return False
            payload = memoryview(rewritten)
        fan_out(
            (self.outlet,),
            payload,
            first=0x80 | packet[0] & 0x20,
            marker=packet[1] & 0x80,
            sequence=mapped >> 32,
            timestamp=mapped & 0xFFFFFFFF,
        )
        return True

    def _repeat(self, sequence: int) -> bool:
        timestamp_offset, generation, source_sequence = 0, None, sequence
        encoding = self.wanted
        if self.up.layered:
            source = None if self._rewriter is None else self._rewriter.to_source(sequence)
            if source is None:
                return False
            encoding = next((e for e in self.up.encodings.values() if e.ssrc == source.ssrc), None)
            timestamp_offset, generation = source.timestamp_offset, source.generation
            source_sequence = source.sequence
        if encoding is None or encoding.history is None:
            return False
        packet = encoding.history.get(source_sequence)
        if packet is None:
            return False
        start = 12 + ((packet[0] & 15) << 2)
        if packet[0] & 0x10:
            start += 4 + (packet[start + 2] << 10 | packet[start + 3] << 2)
        timestamp = (int.from_bytes(packet[4:8], "big") + timestamp_offset) & 0xFFFFFFFF
        ids = read_vp8_ids(packet, start, len(packet)) if generation is not None else None
        return self._send(packet, start, sequence << 32 | timestamp, ids, generation)
