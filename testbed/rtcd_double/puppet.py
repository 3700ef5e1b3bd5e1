"""A participant of the double without a connection: a test says what it publishes, packet by packet."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from rtc.rtp import build_rtp, parse_rtp
from sfu.media_port import SessionConfig
from testbed.rtcd_double.call import Call
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.tracks import Published, TrackType

_CLOCK_STEP = {"audio": 960, "video": 6000}
"""20 ms of 48 kHz, 1/15 s of 90 kHz."""


class PuppetTrack:
    """What a puppet publishes under one SSRC."""

    def __init__(self, publish: Callable[[PuppetTrack], Published]) -> None:
        self.ssrc = secrets.randbits(32)
        self.key_frames_asked = 0
        """PLIs that came through."""
        self.sequence = secrets.randbits(15)
        """Of the next packet."""
        self.timestamp = secrets.randbits(31)
        self._publish = publish
        self._published: Published | None = None

    def send(
        self,
        payload: bytes,
        *,
        marker: bool = False,
        extensions: tuple[tuple[int, bytes], ...] = (),
    ) -> None:
        """One packet now; the first one makes the track. The timestamp goes on after a marker, or with each
        audio packet."""
        if self._published is None:
            self._published = self._publish(self)
        kind = self._published.type.kind
        packet = build_rtp(
            payload,
            payload_type=111 if kind == "audio" else 96,
            sequence=self.sequence,
            timestamp=self.timestamp,
            ssrc=self.ssrc,
            marker=marker,
            extensions=extensions,
        )
        self.sequence = (self.sequence + 1) & 0xFFFF
        if marker or kind == "audio":
            self.timestamp = (self.timestamp + _CLOCK_STEP[kind]) & 0xFFFFFFFF
        header = parse_rtp(packet)
        assert header is not None
        self._published.receive(packet, header, time.monotonic_ns())

    @property
    def receivers(self) -> int:
        """To how many sessions it flows."""
        return len(self._published.receivers) if self._published is not None else 0


class Puppet:
    """Made by DoubleServer.puppet; in the call from then on."""

    def __init__(self, config: SessionConfig, call: Call, script: Script) -> None:
        self.config = config
        self.published: list[Published] = []
        self._call = call
        self._script = script

    def voice(self) -> PuppetTrack:
        return self._track(TrackType.VOICE, "opus", "")

    def screen(self, *, rid: str = "", codec: str = "VP8") -> PuppetTrack:
        """Start to share, or add another layer to the share."""
        self._call.start_screen(self.config.session_id, "screen")
        return self._track(TrackType.SCREEN, codec, rid)

    def screen_audio(self) -> PuppetTrack:
        return self._track(TrackType.SCREEN_AUDIO, "opus", "")

    def camera(self) -> PuppetTrack:
        return self._track(TrackType.VIDEO, "VP8", "")

    def stop_screen(self) -> None:
        self._call.stop_screen(self.config.session_id)

    def mute(self, muted: bool) -> None:
        for track in self.published:
            if track.type is TrackType.VOICE:
                track.enabled = not muted

    def leave(self) -> None:
        self._call.leave(self.config.session_id)

    def _track(self, type_: TrackType, codec: str, rid: str) -> PuppetTrack:
        def publish(track: PuppetTrack) -> Published:
            def asked(_: int) -> None:
                track.key_frames_asked += 1

            published = Published(
                session_id=self.config.session_id,
                type_=type_,
                codec=codec,
                ssrc=track.ssrc,
                rid=rid,
                request_key_frame=asked,
                script=self._script,
            )
            self._call.publish(published)
            return published

        return PuppetTrack(publish)
