"""Everything that one connection receives: which SSRC feeds which track, and what the SFU is told of it.

No socket and no timer of its own: packets, descriptions and `now` come in, RTCP and call events go out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from callclient.events import CallEvent, TrackAdded, TrackEnded, VoiceHeard
from callclient.receive.early import EarlyPackets
from callclient.receive.latency import LatencyBudget
from callclient.receive.receiver import TrackReceiver
from callclient.receive.routing import Routes
from callclient.receive.tracks import Codec, RemoteTrack, TrackSource
from callclient.timeline.call_timeline import CallTimeline
from foundation.logs import get_logger
from foundation.newest import keep_newest
from rtc.rtcp import SenderReport, build_nack, build_pli, build_receiver_report
from rtc.rtp import RtpHeader, header_extension, parse_rtp
from rtc.sections import RemoteMedia
from rtc.transport_cc import EXTENSION_URI as TRANSPORT_CC
from rtc.transport_cc import FeedbackBuilder

_OWN_SSRC: Final = 1
SWITCH_NS: Final = 2_000_000_000
"""A source that was taken away may come back as another track within this: the original switches simulcast
layers by two exchanges of offers."""
_FEEDBACK_NS: Final = 90_000_000
"""Of those ticks that are 100 ms apart each one: timers are not exact."""
_BLOCKS_PER_REPORT: Final = 31
_REMEMBERED_LEAVERS: Final = 1024
_UNKNOWN_SSRC_LIMIT: Final = 256
_STILL_HEARD_NS: Final = 500_000_000
"""A track's packets under a new SSRC: another layer has taken over when the old one is silent for so long."""
_AUDIO_LEVEL: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_CODECS: Final = {codec.value.lower(): codec for codec in Codec}


@dataclass(slots=True)
class _Between:
    """A picture's source between two of its tracks."""

    receiver: TrackReceiver
    until_ns: int


class Receiving:
    """Made for one join. `tick` every 20 ms while `busy` and every 100 ms otherwise, `report` every second;
    `close` in the end."""

    def __init__(
        self,
        *,
        own_session_id: str,
        budget: LatencyBudget,
        send_rtcp: Callable[[bytes], None],
        emit: Callable[[CallEvent], None],
        rtt_s: Callable[[], float | None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake()`: it is busy from now on."""
        self._own_session_id = own_session_id
        self._budget = budget
        self._send_rtcp = send_rtcp
        self._emit = emit
        self._rtt_s = rtt_s
        self._wake = wake
        self.busy = False
        """Packets wait for others: look after them soon."""
        self._timeline = CallTimeline()
        self._left: dict[str, None] = {}
        """Sessions that are over, oldest first; nobody comes back under the same."""
        self._receivers: dict[int, TrackReceiver] = {}
        self._routes = Routes()
        self._learned: set[int] = set()
        """SSRCs that no description has named, and a packet did."""
        self._between: dict[tuple[str, TrackSource], _Between] = {}
        self._sharer: str | None = None
        """Who shares the screen by the server's word; None while it said nothing."""
        self._feedback = FeedbackBuilder(sender_ssrc=_OWN_SSRC, media_ssrc=0)
        self._transport_cc_id: int | None = None
        self._feedback_ns = 0
        self._now_ns = 0
        self._early = EarlyPackets()
        self._unknown_ssrcs: set[int] = set()
        self._log = get_logger(component="receiving")

    def announced(self, media: Sequence[RemoteMedia], now_ns: int) -> None:
        """The newest description names these. Identity is msid and SSRC, never the mid (trap 20)."""
        wanted = {ssrc: one for one in media for ssrc in one.ssrcs}
        self._routes = Routes(media)
        announced = {one.msid.track_id: one for one in media}
        for ssrc, receiver in list(self._receivers.items()):
            one = wanted.get(ssrc)
            if one is None and ssrc in self._learned:
                one = announced.get(receiver.announced_as)
            # A speaker's section loses its track when she leaves; video says so by itself.
            if not receiver.track.source.is_audio and (
                one is None or one.msid.track_id != receiver.announced_as
            ):
                self._take_away(receiver, now_ns)
        for ssrc, one in wanted.items():
            if ssrc not in self._receivers:
                self._start(ssrc, one)
                self._feed_early(ssrc, now_ns)

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        """A decrypted packet came."""
        header = parse_rtp(packet)
        if header is None:
            return
        if self._transport_cc_id is not None and packet[0] & 0x10:
            number = header_extension(packet, self._transport_cc_id)
            if number is not None and len(number) == 2:
                self._feedback.record(number[0] << 8 | number[1], arrival_ns)
        receiver = self._receivers.get(header.ssrc) or self._route(packet, header, arrival_ns)
        if receiver is not None:
            self._feed(receiver, packet, header, arrival_ns)
            return
        self._early.keep(packet, header, arrival_ns)
        known = header.ssrc in self._unknown_ssrcs
        if not known and len(self._unknown_ssrcs) < _UNKNOWN_SSRC_LIMIT:
            self._unknown_ssrcs.add(header.ssrc)
            self._log.warning("rtp.unknown_ssrc", ssrc=header.ssrc)

    def _feed(
        self, receiver: TrackReceiver, packet: bytes, header: RtpHeader, arrival_ns: int
    ) -> None:
        receiver.packet_received(packet, header, arrival_ns)
        if not self.busy and receiver.busy:
            self.busy = True
            self._wake()

    def _feed_early(self, ssrc: int, now_ns: int) -> None:
        """What came before the description that names its SSRC."""
        early, receiver = self._early.take(ssrc, now_ns), self._receivers.get(ssrc)
        if receiver is not None:  # else it is a track that we leave alone
            for packet, header, arrival_ns in early:
                self._feed(receiver, packet, header, arrival_ns)

    def _route(self, packet: bytes, header: RtpHeader, arrival_ns: int) -> TrackReceiver | None:
        """By what the packet says of itself: the section of an SSRC that no description has named."""
        media = self._routes.find(packet, header)
        if media is None:
            return None
        old = [r for r in self._receivers.values() if r.announced_as == media.msid.track_id]
        for receiver in old:
            if arrival_ns - receiver.heard_ns < _STILL_HEARD_NS:
                return None
        for receiver in old:
            self._take_away(receiver, arrival_ns)
        self._start(header.ssrc, media)
        if old:
            self._early.take(header.ssrc, arrival_ns)  # of a time when another layer was heard
        else:
            self._feed_early(header.ssrc, arrival_ns)
        routed = self._receivers.get(header.ssrc)
        if routed is None:  # a track that we leave alone
            self._routes.forget(media)
        else:
            self._learned.add(header.ssrc)
        return routed

    def sender_report_received(self, report: SenderReport, arrival_ns: int) -> None:
        receiver = self._receivers.get(report.ssrc)
        if receiver is not None:
            receiver.sender_report(report, arrival_ns)

    def tick(self, now_ns: int) -> None:
        """Hand on what waited long enough, ask for what is missing."""
        self._now_ns = now_ns
        self._early.forget_old(now_ns)
        rtt_s = self._rtt_s()
        busy = False
        for receiver in self._receivers.values():
            missing = receiver.tick(now_ns, rtt_s)
            busy = busy or receiver.busy
            if missing:
                self._send_rtcp(
                    build_nack(sender_ssrc=_OWN_SSRC, media_ssrc=receiver.ssrc, sequences=missing)
                )
            if receiver.needs_key_frame:
                self._ask_for_key_frame(receiver, now_ns)
            if receiver.voice_changed:
                receiver.voice_changed = False
                track = receiver.track
                self._emit(VoiceHeard(track.session_id, track.speech.speaking))
        self.busy = busy
        if now_ns - self._feedback_ns >= _FEEDBACK_NS:
            self._feedback_ns = now_ns
            for feedback in self._feedback.build():
                self._send_rtcp(feedback)
        for between in [b for b in self._between.values() if b.until_ns <= now_ns]:
            self._end(between.receiver)

    def report(self, now_ns: int) -> None:
        """Send receiver reports."""
        blocks = [receiver.report(now_ns) for receiver in self._receivers.values()]
        for start in range(0, len(blocks), _BLOCKS_PER_REPORT):
            chunk = blocks[start : start + _BLOCKS_PER_REPORT]
            self._send_rtcp(build_receiver_report(ssrc=_OWN_SSRC, blocks=chunk))

    @property
    def tracks(self) -> list[RemoteTrack]:
        """Those that are announced now."""
        return [receiver.track for receiver in self._receivers.values()]

    def participant_left(self, session_id: str) -> None:
        """The end of a voice track is only that its speaker left (trap 21). What is announced of them from
        now on was on its way when they left, and would never end."""
        keep_newest(self._left, session_id, None, most=_REMEMBERED_LEAVERS)
        for receiver in self._all():
            if receiver.track.session_id == session_id:
                self._end(receiver)

    def screen_shared_by(self, session_id: str) -> None:
        """Who shares by the server's word, empty for nobody: other screens do not come back."""
        self._sharer = session_id
        for key, between in list(self._between.items()):
            if key[1] is TrackSource.SCREEN and key[0] != session_id:
                self._end(between.receiver)

    def close(self) -> None:
        """End all tracks."""
        for receiver in self._all():
            self._end(receiver)

    def _all(self) -> list[TrackReceiver]:
        return [*self._receivers.values(), *(b.receiver for b in self._between.values())]

    def _start(self, ssrc: int, media: RemoteMedia) -> None:
        parts = media.msid.track_id.split("_")
        try:
            source = TrackSource(parts[0])
        except ValueError:
            self._log.warning("track.ignored", reason="unknown type in its id")
            return
        if len(parts) != 3 or source.is_audio != (media.kind == "audio"):
            self._log.warning("track.ignored", reason="its id is not type_session_suffix")
            return
        if parts[1] == self._own_session_id or parts[1] in self._left:
            return
        codecs = {
            codec.payload_type: _CODECS[codec.name.lower()]
            for codec in media.codecs
            if codec.name.lower() in _CODECS
        }
        if not codecs:
            self._log.warning("track.ignored", reason="no codec of ours")
            return
        self._transport_cc_id = media.extensions.get(TRANSPORT_CC, self._transport_cc_id)
        between = self._between.pop((parts[1], source), None)
        if between is not None:
            track = between.receiver.track
            track.statistics.restarts += 1
        else:
            track = RemoteTrack(
                track_id=media.msid.track_id,
                session_id=parts[1],
                source=source,
                codec=next(iter(codecs.values())),
                request_key_frame=lambda: self._key_frame_wanted(media.msid.track_id),
            )
        receiver = TrackReceiver(
            track,
            ssrc=ssrc,
            announced_as=media.msid.track_id,
            repeats=any("nack" in codec.feedback for codec in media.codecs),
            level_id=media.extensions.get(_AUDIO_LEVEL) if source is TrackSource.VOICE else None,
            budget=self._budget,
            timeline=self._timeline,
            codecs=codecs,
            follows=None if between is None else between.receiver,
        )
        self._receivers[ssrc] = receiver
        self._log.info("track.added", track_id=media.msid.track_id, ssrc=ssrc)
        if between is None:
            self._emit(TrackAdded(track))

    def _take_away(self, receiver: TrackReceiver, now_ns: int) -> None:
        """A picture's track is gone: the end of it, or the way to another simulcast layer."""
        track = receiver.track
        key = (track.session_id, track.source)
        over = track.source is TrackSource.SCREEN and self._sharer not in (None, track.session_id)
        replaced = any(
            other is not receiver and (other.track.session_id, other.track.source) == key
            for other in self._receivers.values()
        )
        if over or replaced or key in self._between:
            self._end(receiver)
            return
        del self._receivers[receiver.ssrc]
        self._learned.discard(receiver.ssrc)
        receiver.finish()
        self._between[key] = _Between(receiver, now_ns + SWITCH_NS)

    def _end(self, receiver: TrackReceiver) -> None:
        track = receiver.track
        self._receivers.pop(receiver.ssrc, None)
        self._learned.discard(receiver.ssrc)
        key = (track.session_id, track.source)
        between = self._between.get(key)
        if between is not None and between.receiver is receiver:
            del self._between[key]
        receiver.finish()
        track.end()
        self._emit(TrackEnded(track))

    def _key_frame_wanted(self, track_id: str) -> None:
        """By the track's reader: its decoder is lost."""
        for receiver in self._receivers.values():
            if receiver.track.track_id == track_id:
                self._ask_for_key_frame(receiver, self._now_ns)

    def _ask_for_key_frame(self, receiver: TrackReceiver, now_ns: int) -> None:
        if receiver.wants_key_frame(now_ns):
            self._send_rtcp(build_pli(sender_ssrc=_OWN_SSRC, media_ssrc=receiver.ssrc))
