"""What a session publishes: from its SSRCs to tracks of the call (rtcd.md 3.4, 3.6, 3.10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from foundation.logs import get_logger
from rtc.rtcp import ReportBlock, build_nack, build_pli, build_receiver_report
from rtc.rtp import RtpHeader, header_extension, parse_rtp
from rtc.sections import RemoteMedia
from rtc.transport_cc import FeedbackBuilder
from sfu.forwarding.voice_activity import VoiceActivity
from testbed.rtcd_double.book import Book
from testbed.rtcd_double.call import Call
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.tracks import Published, TrackType
from testbed.rtcd_double.transceivers import AUDIO_LEVEL, STREAM_ID, TRANSPORT_CC

_RIDS = ("", "l", "h")
_NACK_LOG_PACKETS = 512


@dataclass(slots=True)
class _Source:
    """One incoming SSRC that was recognised."""

    track: Published
    level_id: int | None
    newest: int | None = None
    missing: set[int] = field(default_factory=set)
    """Video only: asked for again every 100 ms, without end."""

    def note(self, sequence: int) -> None:
        if self.newest is None:
            self.newest = sequence
        ahead = (sequence - self.newest) & 0xFFFF
        if 0 < ahead < 0x8000:
            gap = range(max(1, ahead - _NACK_LOG_PACKETS), ahead)
            if self.track.type.kind == "video":
                self.missing |= {(self.newest + step) & 0xFFFF for step in gap}
            self.newest = sequence
        self.missing.discard(sequence)
        self.missing -= {s for s in self.missing if (self.newest - s) & 0xFFFF > _NACK_LOG_PACKETS}


class Publisher:
    """The incoming side of one session."""

    def __init__(
        self,
        *,
        session_id: str,
        call: Call,
        script: Script,
        book: Book,
        send_rtcp: Callable[[bytes], None],
        voice_changed: Callable[[bool], None],
    ) -> None:
        self._session_id = session_id
        self._call = call
        self._script = script
        self._book = book
        self._send_rtcp = send_rtcp
        self._voice_changed = voice_changed
        self.video_stream_id = ""
        self._media: list[RemoteMedia] = []
        self._sources: dict[int, _Source] = {}
        self._refused: set[int] = set()
        self._voice: Published | None = None
        self._activity = VoiceActivity()
        self._arrivals = FeedbackBuilder(sender_ssrc=1)
        self._transport_cc_id: int | None = None
        self._log = get_logger(component="rtcd-double", session_id=session_id)

    def announced(self, media: list[RemoteMedia]) -> None:
        """The newest description of the client. What it no longer lists just stops sending."""
        self._media = media
        # One id for the whole connection.
        numbers = (m.extensions.get(TRANSPORT_CC) for m in media)
        self._transport_cc_id = next((n for n in numbers if n is not None), None)

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        header = parse_rtp(packet)
        if header is None:
            return
        if self._transport_cc_id is not None:
            value = header_extension(packet, self._transport_cc_id)
            if value is not None and len(value) == 2:
                self._arrivals.record(int.from_bytes(value), arrival_ns)
        if header.ssrc in self._refused:
            return
        source = self._sources.get(header.ssrc) or self._first_packet(packet, header)
        if source is None:
            return
        source.note(header.sequence)
        level = header_extension(packet, source.level_id) if source.level_id else None
        if level:
            # Before the mute is looked at: who is muted but sends can still be heard speaking.
            changed = self._activity.push(level[0], arrival_ns)
            if changed is not None:
                self._voice_changed(changed)
        source.track.receive(packet, header, arrival_ns)

    def mute(self, muted: bool) -> None:
        """Before there is a voice it is forgotten."""
        if self._voice is None:
            return
        self._voice.enabled = not muted
        if muted:
            self._activity.reset()
            self._voice_changed(False)

    def give_feedback(self) -> None:
        """Due every 100 ms: what came, and what should come again."""
        for report in self._arrivals.build():
            self._send_rtcp(report)
        for ssrc, source in self._sources.items():
            if source.missing:
                wanted = sorted(source.missing)
                self._send_rtcp(build_nack(sender_ssrc=1, media_ssrc=ssrc, sequences=wanted))

    def receiver_report(self) -> bytes | None:
        """RTCP RR; None when nothing is received."""
        blocks = [
            ReportBlock(ssrc, 0, 0, source.newest, 0)
            for ssrc, source in self._sources.items()
            if source.newest is not None
        ]
        return build_receiver_report(ssrc=1, blocks=blocks) if blocks else None

    def _first_packet(self, packet: bytes, header: RtpHeader) -> _Source | None:
        media, rid = self._find_media(packet, header.ssrc)
        if media is None:
            return None
        codec = next((c for c in media.codecs if c.payload_type == header.payload_type), None)
        type_ = self._classify(media)
        if type_ is None or codec is None or rid not in _RIDS:
            if type_ is None and not self._script.rejects_early_video:
                return None
            self._refused.add(header.ssrc)
            self._book.rejected_video += 1
            self._log.warning("track.refused", kind=media.kind, rid=rid)
            return None
        track = Published(
            session_id=self._session_id,
            type_=type_,
            codec=codec.name,
            ssrc=header.ssrc,
            rid=rid,
            request_key_frame=lambda ssrc: self._send_rtcp(
                build_pli(sender_ssrc=1, media_ssrc=ssrc)
            ),
            script=self._script,
        )
        if type_ is TrackType.VOICE:
            self._voice = track
        level_id = media.extensions.get(AUDIO_LEVEL) if type_.kind == "audio" else None
        if level_id is not None:
            # The sound of a screen replaces the monitor of the voice and shares it.
            self._activity = VoiceActivity()
        source = self._sources[header.ssrc] = _Source(track, level_id)
        self._log.info("track.published", type=type_.value, codec=codec.name, rid=rid)
        self._call.publish(track)
        return source

    def _find_media(self, packet: bytes, ssrc: int) -> tuple[RemoteMedia | None, str]:
        for media in self._media:
            if ssrc in media.ssrcs and not media.rids:
                return media, ""
        for media in self._media:
            number = media.extensions.get(STREAM_ID)
            value = header_extension(packet, number) if media.rids and number else None
            if value is not None:
                return media, value.decode("ascii", "replace")
        return None, ""

    def _classify(self, media: RemoteMedia) -> TrackType | None:
        stream_id = media.msid.stream_id
        # The call's screen, whoever shares it.
        is_screen = stream_id not in ("", "-") and stream_id == self._call.screen_stream_id
        if media.kind == "audio":
            return TrackType.SCREEN_AUDIO if is_screen else TrackType.VOICE
        if is_screen:
            return TrackType.SCREEN
        return TrackType.VIDEO if stream_id and stream_id == self.video_stream_id else None
