"""What one session publishes: from its SSRCs to tracks of the call (rtcd.md 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foundation.logs import get_logger
from rtc.negotiation import RemoteMedia
from rtc.rtp import header_extension, parse_rtp
from sfu.call import Call
from sfu.capabilities import AUDIO_LEVEL
from sfu.forwarding.tracks import TrackType, UpTrack
from sfu.forwarding.voice_activity import VoiceActivity

UNDECIDED_VIDEO_NS = 2_000_000_000
"""How long video waits for the `screen_on` or `video_on` that says what it is (rtcd.md trap 16)."""


@dataclass(slots=True)
class _Undecided:
    """A remote SSRC whose track type is not known yet."""

    media: RemoteMedia
    first_packet_ns: int | None = None


class Publisher:
    """The incoming side of one session."""

    def __init__(
        self,
        *,
        session_id: str,
        call: Call,
        request_key_frame: Callable[[int], None],
        voice_changed: Callable[[bool], None],
    ) -> None:
        """`request_key_frame(ssrc)` sends a PLI; `voice_changed(active)` tells voice activity."""
        self._session_id = session_id
        self._call = call
        self._request_key_frame = request_key_frame
        self._voice_changed = voice_changed
        self.video_stream_id = ""
        """The msid stream that the session announced as its camera."""
        self._undecided: dict[int, _Undecided] = {}
        self._ups: dict[int, UpTrack] = {}
        self._rejected: set[int] = set()
        self._levels: dict[int, tuple[int, VoiceActivity]] = {}
        self._log = get_logger(component="publisher", session_id=session_id)

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        """A decrypted packet of this session; its first one makes the track."""
        header = parse_rtp(packet)
        if header is None:
            return
        up = self._ups.get(header.ssrc)
        if up is None:
            up = self._decide_track(header.ssrc, header.payload_type, arrival_ns)
            if up is None:
                return
        level = self._levels.get(header.ssrc)
        if level is not None:
            self._update_voice_activity(packet, level, arrival_ns)
        up.receive(packet, header)

    def announced(self, remote: list[RemoteMedia]) -> None:
        """Learn the SSRCs of the newest description; tracks exist from their first packet on."""
        announced: set[int] = set()
        for media in remote:
            for ssrc in media.ssrcs:
                announced.add(ssrc)
                if ssrc not in self._ups:
                    self._undecided.setdefault(ssrc, _Undecided(media))
        for ssrc in [s for s in self._ups if s not in announced]:
            self._end_track(ssrc)

    def _decide_track(self, ssrc: int, payload_type: int, now_ns: int) -> UpTrack | None:
        undecided = self._undecided.get(ssrc)
        if undecided is None or ssrc in self._rejected:
            return None
        if undecided.first_packet_ns is None:
            undecided.first_packet_ns = now_ns
        media = undecided.media
        type_ = self._classify(media)
        if type_ is None:
            if now_ns - undecided.first_packet_ns > UNDECIDED_VIDEO_NS:
                self._rejected.add(ssrc)
                self._log.warning(
                    "video.rejected", reason="neither screen nor camera was announced"
                )
            return None
        codec = next((c.name for c in media.codecs if c.payload_type == payload_type), None)
        if codec is None:
            return None
        up = UpTrack(
            session_id=self._session_id,
            type_=type_,
            ssrc=ssrc,
            codec=codec,
            request_key_frame=self._request_key_frame,
        )
        self._ups[ssrc] = up
        del self._undecided[ssrc]
        level_id = media.extensions.get(AUDIO_LEVEL)
        if level_id is not None and type_ is TrackType.VOICE:
            self._levels[ssrc] = (level_id, VoiceActivity())
        self._log.info("track.published", track_id=up.track_id, codec=codec)
        self._call.add_track(up)
        return up

    def _classify(self, media: RemoteMedia) -> TrackType | None:
        stream_id = media.msid.stream_id
        is_screen = (
            self._call.screen_session_id == self._session_id
            and stream_id == self._call.screen_stream_id
        )
        if media.kind == "audio":
            return TrackType.SCREEN_AUDIO if is_screen else TrackType.VOICE
        if is_screen:
            return TrackType.SCREEN
        if stream_id and stream_id == self.video_stream_id:
            return TrackType.VIDEO
        return None

    def _end_track(self, ssrc: int) -> None:
        up = self._ups.pop(ssrc)
        self._levels.pop(ssrc, None)
        if up in self._call.tracks:
            self._call.remove_track(up)

    def forget_ended_tracks(self) -> None:
        """Drop what the call has taken away; its packets are refused from now on."""
        for ssrc in [s for s, up in self._ups.items() if up not in self._call.tracks]:
            del self._ups[ssrc]

    def set_voice_enabled(self, enabled: bool) -> None:
        """Mute or unmute: nothing of a muted voice is forwarded, and its activity ends."""
        for up in self._ups.values():
            if up.type is TrackType.VOICE:
                up.enabled = enabled
        if not enabled:
            for _, activity in self._levels.values():
                activity.reset()
            if self._levels:
                self._voice_changed(False)

    def _update_voice_activity(
        self, packet: bytes, level: tuple[int, VoiceActivity], now_ns: int
    ) -> None:
        extension_id, activity = level
        value = header_extension(packet, extension_id)
        changed = activity.push(value[0], now_ns) if value else None
        if changed is not None:
            self._voice_changed(changed)
