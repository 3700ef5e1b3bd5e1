"""Everything of one received SSRC: order, loss, repair requests, reports, frames. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from callclient.receive.depacketize import Depacketizer, depacketizer_for
from callclient.receive.frames import Assembled
from callclient.receive.jitter import BufferedPacket, JitterBuffer
from callclient.receive.latency import LatencyBudget
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack
from callclient.timeline.call_timeline import CallTimeline
from callclient.timeline.source_clock import PAUSE_NS
from rtc.nack import NackGenerator
from rtc.rtcp import ReportBlock, SenderReport
from rtc.rtp import RtpHeader, header_extension
from rtc.statistics import ReceiveStatistics

_NS: Final = 1_000_000_000
_PACKET_NS: Final = 20_000_000
"""What nearly every packet of a voice lasts."""
_NACK_AGE_NS: Final = 5_000_000
"""Packets swapped on the way come within this."""
_NACK_TRIES: Final = 20
_NACK_SHORTEST_NS: Final = 20_000_000
_NACK_LONGEST_NS: Final = 80_000_000
"""Not the whole way of a long round trip: a request or its answer that is lost too must not take half of
the budget. What comes twice then is a small part of what is lost."""
_PLI_INTERVAL_NS: Final = _NS
"""More often none gets through to the publisher (calls-plugin.md 4.7)."""
_PLI_REPEAT_NS: Final = 200_000_000
_PLI_REPEATS: Final = 2
"""A request may be lost as well. Where packets get lost, one is sent this often again within its second; of
those that get through the SFU heeds the first one."""
_LOSSY_NS: Final = 5 * _NS
"""So long after a loss."""


class TrackReceiver:
    """Feeds one RemoteTrack from one SSRC. `tick` every 20 ms."""

    def __init__(
        self,
        track: RemoteTrack,
        *,
        ssrc: int,
        budget: LatencyBudget,
        timeline: CallTimeline,
        announced_as: str = "",
        repeats: bool = True,
        level_id: int | None = None,
        codecs: Mapping[int, Codec] | None = None,
        follows: TrackReceiver | None = None,
    ) -> None:
        """`announced_as`: the track id in the SFU's description.

        `repeats`: lost pictures' packets can be asked for again. `level_id`: of the header extension with
        the publisher's audio level (RFC 6464).

        `codecs`: by negotiated payload type; None: whatever comes is the track's.

        `follows`: what fed the track from another SSRC until now; it is finished.
        """
        self.track = track
        self.ssrc = ssrc
        self.announced_as = announced_as
        is_audio = track.source.is_audio
        self.needs_key_frame = not is_audio
        """Video cannot be decoded: none came yet, or something was lost since. SFUs do not ask by
        themselves (calls-plugin.md trap 23)."""
        self._timeline = timeline
        self._codecs = codecs
        self._payload_type: int | None = None
        self._depacketizer: Depacketizer | None = None
        self._clock_rate_hz = track.codec.clock_rate_hz
        self._clock = timeline.clock(
            self._clock_rate_hz,
            is_audio=is_audio,
            settle_ns=budget.audio_wait_ns if is_audio else 0,
            not_before_ns=0 if follows is None else follows.last_time_ns,
        )
        self._broken_off = follows is not None
        """The next picture does not go on from the one before."""
        self._buffer = JitterBuffer(
            max_wait_ns=budget.audio_wait_ns if is_audio else budget.video_wait_ns,
            pause_ns=PAUSE_NS if is_audio else None,
        )
        self._nack = (
            NackGenerator(min_age_ns=_NACK_AGE_NS, max_tries=_NACK_TRIES)
            if repeats and not is_audio
            else None
        )
        self._is_audio = is_audio
        self._level_id = level_id
        self.voice_changed = False
        """Whether it speaks has changed; reset it."""
        self.heard_ns = 0
        """When the newest packet came."""
        self._asked: set[int] = set()
        self._pli_sent_ns: int | None = None
        self._pli_repeats = 0
        self._loss_seen_ns: int | None = None
        self._opening_ns = 0
        """Until then the first packets after a mute are held: some may have overtaken others."""
        self._opening_for_ns = budget.audio_wait_ns if is_audio else 0
        self._reception = ReceiveStatistics(ssrc, self._clock_rate_hz)
        self._before = _Counted(self._buffer)

    @property
    def busy(self) -> bool:
        """Something waits for something: it must not wait much longer than it is said to."""
        return bool(self._buffer.waiting or self._clock.settling) or (
            self._nack is not None and self._nack.missing > 0
        )

    @property
    def last_time_ns(self) -> int:
        """Of the newest frame."""
        return self._clock.last_answer_ns

    def packet_received(self, packet: bytes, header: RtpHeader, arrival_ns: int) -> None:
        """A packet of this SSRC came."""
        statistics = self.track.statistics
        statistics.packets_received += 1
        self.heard_ns = arrival_ns
        self._reception.received(header.sequence, header.timestamp, arrival_ns)
        if header.payload_type != self._payload_type and not self._choose_codec(header):
            statistics.drop("payload_type")
            return
        payload = packet[header.payload_start : header.payload_end]
        statistics.bytes_received += len(payload)
        buffer, clock = self._buffer, self._clock
        number = buffer.number(header.sequence)
        if self._nack is not None:
            self._nack.received(header.sequence, arrival_ns)
        if buffer.jumps(number, arrival_ns, settling=clock.settling):
            self._deliver(buffer.flush())
            self._jumped(arrival_ns)
        timestamp = clock.arrived(number, header.timestamp, arrival_ns)
        if number in self._asked:
            self._asked.discard(number)
            statistics.packets_repaired += 1
        placed = BufferedPacket(number, header, payload, arrival_ns, timestamp)
        if self._broken_off:
            self._broken_off = False
            placed.lost_before = 0 if self._is_audio else 1
        if self._level_id is not None:
            self._read_level(packet, arrival_ns)
        ready = buffer.add(placed, hold=clock.settling or arrival_ns < self._opening_ns)
        if ready:
            self._deliver(ready)

    def _read_level(self, packet: bytes, arrival_ns: int) -> None:
        assert self._level_id is not None
        level = header_extension(packet, self._level_id)
        if level is not None and len(level) == 1:
            self.voice_changed |= self.track.speech.told(level[0], arrival_ns, _PACKET_NS)

    def tick(self, now_ns: int, rtt_s: float | None = None) -> list[int]:
        """Give up what is overdue; returns sequence numbers to ask for again (video only)."""
        buffer, clock = self._buffer, self._clock
        if clock.settling:
            clock.settle(now_ns)
        if self._level_id is not None and not self.track.speech.decoded:
            self.voice_changed |= self.track.speech.silence_until(now_ns)
        if buffer.waiting and not clock.settling and now_ns >= self._opening_ns:
            self._deliver(buffer.ready())
            self._deliver(buffer.give_up(now_ns))
        if self._nack is None or not self._nack.missing:
            return []
        return self._ask_again(self._nack, now_ns, rtt_s)

    def wants_key_frame(self, now_ns: int) -> bool:
        """Should a PLI go out now? True once a second; where packets get lost, twice more within it."""
        if self._pli_sent_ns is not None and now_ns - self._pli_sent_ns < _PLI_INTERVAL_NS:
            return self._repeats_request(now_ns - self._pli_sent_ns, now_ns)
        self._pli_sent_ns, self._pli_repeats = now_ns, 0
        self.track.statistics.key_frames_requested += 1
        return True

    def _repeats_request(self, since_ns: int, now_ns: int) -> bool:
        lossy = self._loss_seen_ns is not None and now_ns - self._loss_seen_ns < _LOSSY_NS
        if (
            not lossy
            or self._pli_repeats >= _PLI_REPEATS
            or since_ns < (self._pli_repeats + 1) * _PLI_REPEAT_NS
        ):
            return False
        self._pli_repeats += 1
        return True

    def finish(self) -> None:
        """Deliver what still waits: nothing more will come."""
        self._clock.settle(None)
        self._deliver(self._buffer.flush())
        self.update_statistics()

    def sender_report(self, report: SenderReport, arrival_ns: int) -> None:
        """The SFU's report on this SSRC came; our next one refers to it."""
        self._reception.sender_report(report.ntp, arrival_ns)
        self._timeline.sender_report(self._clock, report, arrival_ns)

    def report(self, now_ns: int) -> ReportBlock:
        """What happened since the last report."""
        self.update_statistics()
        return self._reception.report(now_ns)

    def update_statistics(self) -> None:
        """Bring the track's counters up to date."""
        statistics = self.track.statistics
        self._before.add_to(self.track)
        statistics.spurts = self._clock.spurts
        statistics.jitter_ms = self._reception.jitter_ms

    def _jumped(self, arrival_ns: int) -> None:
        """The sender's numbers go on elsewhere: a mute, or a new start."""
        self._opening_ns = arrival_ns + self._opening_for_ns
        self._clock.restarted()
        self._broken_off = True

    def _choose_codec(self, header: RtpHeader) -> bool:
        """The first packet says what the track is; False: this one is of another codec."""
        codec = self.track.codec
        if self._codecs is not None:
            found = self._codecs.get(header.payload_type)
            if found is None or (self._depacketizer is not None and found is not codec):
                return False
            codec = found
        if self._depacketizer is None:
            self.track.codec = codec
            self._depacketizer = depacketizer_for(codec, self.track.statistics)
        self._payload_type = header.payload_type
        return True

    def _ask_again(self, nack: NackGenerator, now_ns: int, rtt_s: float | None) -> list[int]:
        if rtt_s is not None:
            # A repetition cannot be here earlier; a quarter more for its way through two queues.
            repeat_ns = round(rtt_s * 1.25 * _NS) + 10_000_000
            nack.repeat_ns = min(max(repeat_ns, _NACK_SHORTEST_NS), _NACK_LONGEST_NS)
        wanted = nack.due(now_ns)
        if wanted:
            self._loss_seen_ns = now_ns
        if nack.key_frame_needed:
            nack.key_frame_needed = False
            self.needs_key_frame = True
        oldest = self._buffer.next
        if oldest is not None:
            self._asked = {number for number in self._asked if number >= oldest}
            self._asked.update(oldest + ((sequence - oldest) & 0xFFFF) for sequence in wanted)
        return wanted

    def _deliver(self, packets: list[BufferedPacket]) -> None:
        depacketizer, clock = self._depacketizer, self._clock
        if depacketizer is None:
            return
        for packet in packets:
            if packet.lost_before and not self._is_audio:
                self.needs_key_frame = True
                self._loss_seen_ns = packet.arrival_ns
                if self._nack is not None:  # not needed any more, and no longer asked for
                    self._nack.key_frame(packet.header.sequence)
            frame = depacketizer.push(packet)
            if frame is not None:
                time_ns = clock.place(frame.sequence, frame.timestamp)
                self._hand_on(frame, time_ns)

    def _hand_on(self, frame: Assembled, time_ns: int) -> None:
        track, lost_ns = self.track, 0
        if frame.keyframe:
            self.needs_key_frame = False
        elif frame.lost:
            self.needs_key_frame = True
        if frame.lost_samples:
            lost_ns = frame.lost_samples * _NS // self._clock_rate_hz
            track.statistics.concealed_ns += lost_ns
        track.deliver(
            EncodedFrame(
                frame.payload,
                time_ns,
                frame.samples * _NS // self._clock_rate_hz,
                frame.keyframe,
                frame.lost,
                lost_ns,
                frame.repairs_loss,
                track.codec,
            )
        )


class _Counted:
    """What of a buffer's counters is in the track's already: a track may see several buffers."""

    __slots__ = ("_buffer", "_seen")

    def __init__(self, buffer: JitterBuffer) -> None:
        self._buffer = buffer
        self._seen = (0, 0, 0, 0, 0)

    def add_to(self, track: RemoteTrack) -> None:
        buffer, statistics = self._buffer, track.statistics
        counted = (buffer.lost, buffer.late, buffer.duplicate, buffer.gaps, buffer.restarts)
        lost, late, duplicate, gaps, restarts = (
            now - before for now, before in zip(counted, self._seen, strict=True)
        )
        self._seen = counted
        statistics.packets_lost += lost
        statistics.packets_late += late
        statistics.packets_duplicate += duplicate
        statistics.gaps += gaps
        statistics.restarts += restarts
