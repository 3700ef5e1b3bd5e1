"""What one session publishes: from its SSRCs to tracks of the call (rtcd.md 3.4)."""

from __future__ import annotations

from collections.abc import Callable

from foundation.logs import get_logger
from rtc.ntp import ntp_from_unix
from rtc.rtcp import SenderReport, build_nack, build_pli, build_receiver_report
from rtc.rtp import header_extension
from rtc.sections import RemoteMedia
from rtc.transport_cc import EXTENSION_URI as TRANSPORT_CC
from rtc.transport_cc import FeedbackBuilder
from sfu.call import Call
from sfu.capabilities import AUDIO_LEVEL
from sfu.declared import DeclaredMedia, type_of
from sfu.flood import TokenBucket
from sfu.forwarding.encoding import Encoding
from sfu.forwarding.publisher_clock import PublisherClock
from sfu.forwarding.tracks import CLOCK_RATES_HZ, TrackType, UpTrack, write_type
from sfu.forwarding.voice_activity import VoiceActivity
from sfu.limits import Limits
from sfu.metrics import SfuMetrics
from sfu.publisher_limits import PublisherLimits
from sfu.undecided import Undecided

SENDER_SSRC = 1
"""Of our own reports and requests; we publish nothing."""
_MAX_BLOCKS = 31
_MAX_ENCODINGS = 64
_STARTS_PER_S, _MAX_STARTS = 1, 20
"""Tracks that one session may begin: each is an offer to everybody else."""


class Publisher:
    """The incoming side of one session."""

    def __init__(
        self,
        *,
        session_id: str,
        group_id: str,
        call: Call,
        send_rtcp: Callable[[bytes], None],
        voice_changed: Callable[[bool], None],
        metrics: SfuMetrics,
        history_packets: int,
        limits: Limits,
    ) -> None:
        """`voice_changed(active)` tells voice activity; `history_packets` a power of 2."""
        self._session_id = session_id
        self._group_id = group_id
        self._call = call
        self._send_rtcp = send_rtcp
        self._voice_changed = voice_changed
        self._metrics = metrics
        self._history_packets = history_packets
        self._limits = PublisherLimits(limits, metrics, session_id, group_id)
        self.video_stream_id = ""
        """The msid stream that the session announced as its camera."""
        self._declared = DeclaredMedia()
        self._retired: set[int] = set()
        """SSRCs whose place another one has taken since the newest description."""
        self._muted: set[str] = set()
        """Sections that were declared when the session was muted."""
        self._starts = TokenBucket(_STARTS_PER_S, _MAX_STARTS, now_ns=0)
        self._undecided = Undecided()
        self._tracks: dict[str, UpTrack] = {}
        self._encodings: dict[int, Encoding] = {}
        self._activity = VoiceActivity()
        self._clock = PublisherClock()
        self._feedback: FeedbackBuilder | None = None
        self._number_id = 0
        """Of the transport-wide number, the same in all sections."""
        self.unknown_packets = 0
        """Of SSRCs that belong to no announced section, or not yet to a track."""
        self._log = get_logger(component="publisher", session_id=session_id)

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        """One decrypted packet."""
        encoding = self._encodings.get(int.from_bytes(packet[8:12], "big"))
        if encoding is None:
            encoding = self._new_encoding(packet, arrival_ns)
            if encoding is None:
                self.unknown_packets += 1
                self._note_arrival(packet, arrival_ns)
                return
        encoding.receive(packet, arrival_ns)

    def announced(self, remote: list[RemoteMedia]) -> None:
        """Learn the sections of the newest description; tracks exist from their first packet on."""
        self._declared = declared = DeclaredMedia(remote)
        self._retired.clear()
        self._limits.announced()
        self._muted &= {media.mid for media in remote}
        self._undecided.declared(declared)
        for mid, track in list(self._tracks.items()):
            if not declared.carries(mid, track):
                self._end_track(mid)
        for media in remote:
            number_id = media.extensions.get(TRANSPORT_CC)
            if number_id is not None:
                self._number_id = number_id
                self._feedback = self._feedback or FeedbackBuilder(sender_ssrc=SENDER_SSRC)

    def screen_started(self) -> None:
        """The session's screen stream is known now: sound of it that came early was taken for a voice."""
        self._retired.clear()
        for mid, track in list(self._tracks.items()):
            media = self._declared.get(mid)
            type_ = None if media is None else self._classify(media)
            was_early = track.type is TrackType.VOICE and type_ is TrackType.SCREEN_AUDIO
            if was_early or (track.type is TrackType.SCREEN and type_ is not TrackType.SCREEN):
                self._end_track(mid)

    def forget_ended_tracks(self) -> None:
        """Drop what the call has taken away; its packets are refused from now on."""
        for mid, track in list(self._tracks.items()):
            if track not in self._call.tracks:
                self._forget(mid, track)

    def set_voice_enabled(self, enabled: bool) -> None:
        """Mute or unmute: nothing of a muted voice is forwarded, and its activity ends.

        A mute holds for what is declared in the session's description, sent or not (rtcd.md trap 18).
        What is declared later starts enabled, as clients are used to (3.6).
        """
        voice = TrackType.VOICE
        declared = () if enabled else self._declared
        self._muted = {media.mid for media in declared if self._classify(media) is voice}
        voices = [track for track in self._tracks.values() if track.type is voice]
        for track in voices:
            track.enabled = enabled
        if not enabled and voices:
            self._activity.reset()
            self._voice_changed(False)

    def sender_report(self, report: SenderReport, arrival_ns: int, unix_ns: int) -> None:
        """RTCP SR of one of our SSRCs; others are ignored."""
        encoding = self._encodings.get(report.ssrc)
        if encoding is not None:
            self._clock.note(report.ntp, ntp_from_unix(unix_ns), arrival_ns)
            encoding.sender_report(report, arrival_ns)

    def tick(self, now_ns: int) -> None:
        """Every 100 ms: congestion feedback, and requests for what is missing."""
        if self._feedback is not None and self._encodings:
            self._feedback.media_ssrc = max(
                self._encodings.values(), key=lambda encoding: encoding.heard_ns
            ).ssrc
            for packet in self._feedback.build():
                self._send_rtcp(packet)
        for encoding in self._encodings.values():
            nacks = encoding.nacks
            if nacks is None:
                continue
            missing = nacks.due(now_ns)
            if missing:
                self._metrics.add(
                    "rtcd_rtc_nacks_total", self._group_id, "out", amount=len(missing)
                )
                self._send_rtcp(
                    build_nack(sender_ssrc=SENDER_SSRC, media_ssrc=encoding.ssrc, sequences=missing)
                )
            encoding.tick(now_ns)
            if nacks.key_frame_needed and encoding.track.downs:
                nacks.key_frame_needed = False
                encoding.request_key_frame(now_ns)

    def report(self, now_ns: int) -> None:
        """Every second: receiver reports, and the figures for the metrics."""
        self._count_all()
        blocks = [e.statistics.report(now_ns) for e in self._encodings.values()]
        for start in range(0, len(blocks), _MAX_BLOCKS):
            self._send_rtcp(
                build_receiver_report(ssrc=SENDER_SSRC, blocks=blocks[start : start + _MAX_BLOCKS])
            )

    @property
    def active(self) -> bool:
        """Is there anything to tick for?"""
        return bool(self._encodings)

    # internals

    def _note_arrival(self, packet: bytes, arrival_ns: int) -> None:
        """What is of no use, or not yet, has arrived all the same: told as lost, it would slow its sender."""
        if self._feedback is None or not self._encodings:
            return
        number = header_extension(packet, self._number_id)
        if number is not None and len(number) == 2:
            self._feedback.record(int.from_bytes(number), arrival_ns)

    def _count_all(self) -> None:
        for encoding in self._encodings.values():
            self._count(encoding)
        if self.unknown_packets:
            self._dropped("unknown", self.unknown_packets)
            self.unknown_packets = 0

    def _count(self, encoding: Encoding) -> None:
        kind = write_type(encoding.track.type)
        packets, octets, malformed, too_fast = encoding.take_counts()
        add, group = self._metrics.add, self._group_id
        add("rtcd_rtc_packets_received_total", group, kind, amount=packets)
        add("rtcd_rtc_bytes_received_total", group, kind, amount=octets)
        if malformed:
            self._dropped("malformed", malformed)
        self._limits.too_fast(encoding.track.kind, too_fast)

    def _dropped(self, reason: str, packets: int) -> None:
        self._metrics.add("rtcd_rtc_packets_dropped_total", self._group_id, reason, amount=packets)

    def _new_encoding(self, packet: bytes, now_ns: int) -> Encoding | None:
        if len(packet) < 12 or len(self._encodings) >= _MAX_ENCODINGS:
            return None
        ssrc = int.from_bytes(packet[8:12], "big")
        found = None if ssrc in self._retired else self._declared.find(packet)
        if found is None:
            return None
        media, rid = found
        payload_type = packet[1] & 0x7F
        codec = next((c.name for c in media.codecs if c.payload_type == payload_type), None)
        if codec is None or codec not in CLOCK_RATES_HZ:
            return None
        track = self._tracks.get(media.mid)
        if track is not None and track.codec == codec and rid not in track.encodings:
            encoding = self._add_encoding(track, media, ssrc, rid, payload_type)
            for down in track.downs:
                encoding.subscribed(down)
            return encoding
        if track is None and self._limits.full(self._tracks, media.mid):
            return None
        type_ = self._decide(media, now_ns)
        if type_ is None or not self._starts.take(now_ns):
            return None
        if track is not None:
            self._replace(media.mid)
        track = self._new_track(media, type_, codec, now_ns)
        encoding = self._add_encoding(track, media, ssrc, rid, payload_type)
        self._publish(media.mid, track)
        return encoding

    def _decide(self, media: RemoteMedia, now_ns: int) -> TrackType | None:
        """What a packet of a section begins; None while nobody has said so."""
        type_ = self._classify(media)
        may_be_sound = type_ is TrackType.VOICE and any(
            track.type is TrackType.VOICE and mid != media.mid
            for mid, track in self._tracks.items()
        )
        if type_ is not None and not may_be_sound:
            return type_
        if self._undecided.holds(media, now_ns):
            return None  # perhaps it belongs to a screen that is announced in a moment
        if type_ is None and self._undecided.give_up(media):
            self._metrics.add("rtcd_rtc_undecided_total", self._group_id, "rejected")
            self._metrics.error(self._group_id, "track")
            self._log.warning("video.rejected", reason="neither screen nor camera was announced")
        return type_

    def _classify(self, media: RemoteMedia) -> TrackType | None:
        shares = self._call.screen_session_id == self._session_id
        screen = self._call.screen_stream_id if shares else ""
        return type_of(media, screen=screen, camera=self.video_stream_id)

    def _new_track(self, media: RemoteMedia, type_: TrackType, codec: str, now_ns: int) -> UpTrack:
        track = UpTrack(
            session_id=self._session_id,
            stream_id=media.msid.stream_id,
            type_=type_,
            codec=codec,
            layered=bool(media.rids),
            publisher_ntp=self._clock.to_ours,
            write_times=self._metrics.write_times(self._group_id, write_type(type_)),
            bit_rate=self._limits.bit_rate(type_.kind, now_ns),
        )
        track.enabled = type_ is not TrackType.VOICE or media.mid not in self._muted
        return track

    def _add_encoding(
        self, track: UpTrack, media: RemoteMedia, ssrc: int, rid: str, payload_type: int
    ) -> Encoding:
        encoding = Encoding(
            track,
            ssrc=ssrc,
            rid=rid,
            payload_type=payload_type,
            level_id=media.extensions.get(AUDIO_LEVEL),
            number_id=media.extensions.get(TRANSPORT_CC),
            history_packets=self._history_packets,
            feedback=self._feedback,
            on_level=self._level_heard if track.kind == "audio" else None,
            request_key_frame=self._send_pli,
        )
        track.encodings[rid] = encoding
        self._encodings[ssrc] = encoding
        return encoding

    def _publish(self, mid: str, track: UpTrack) -> None:
        if track.type is TrackType.VOICE:
            for other_mid, other in list(self._tracks.items()):
                if other.type is TrackType.VOICE:
                    self._replace(other_mid)  # a later voice takes its place (rtcd.md 3.4)
        self._tracks[mid] = track
        if self._undecided.decided(mid) and track.kind == "video":
            self._metrics.add("rtcd_rtc_undecided_total", self._group_id, "decided")
        self._metrics.track_opened(self._group_id, "in", track.mime)
        self._log.info("track.published", track_id=track.track_id, codec=track.codec)
        self._call.add_track(track)

    def _replace(self, mid: str) -> None:
        """Something else has come for it; what still comes under its SSRCs is refused."""
        self._retired.update(e.ssrc for e in self._tracks[mid].encodings.values())
        self._end_track(mid)

    def _end_track(self, mid: str) -> None:
        track = self._tracks[mid]
        if track in self._call.tracks:
            self._call.remove_track(track)
        self._forget(mid, track)

    def _forget(self, mid: str, track: UpTrack) -> None:
        del self._tracks[mid]
        for encoding in track.encodings.values():
            self._count(encoding)
            self._encodings.pop(encoding.ssrc, None)
        self._metrics.track_closed(self._group_id, "in", track.mime)

    def close(self) -> None:
        """The session has ended; the call has dropped its tracks."""
        for mid, track in list(self._tracks.items()):
            self._forget(mid, track)

    def _level_heard(self, level: int, now_ns: int) -> None:
        changed = self._activity.push(level, now_ns)
        if changed is not None:
            self._voice_changed(changed)

    def _send_pli(self, ssrc: int) -> None:
        self._metrics.add("rtcd_rtc_plis_total", self._group_id, "out")
        self._send_rtcp(build_pli(sender_ssrc=SENDER_SSRC, media_ssrc=ssrc))
