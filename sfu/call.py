"""A call: who is in it and which tracks go to whom (rtcd.md 3.4–3.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sfu.forwarding.tracks import TrackType, UpTrack
from sfu.media_port import SessionConfig


class Subscriber(Protocol):
    """What a call needs of a session."""

    config: SessionConfig

    @property
    def ready(self) -> bool:
        """Its data channel is open: tracks may be announced."""

    def subscribe(self, track: UpTrack) -> None:
        """Queue the announcement of a track; returns at once."""

    def unsubscribe(self, track: UpTrack) -> None:
        """Queue its removal; returns at once."""


class Call:
    """All sessions of one call id of one client."""

    def __init__(self) -> None:
        self.sessions: dict[str, Subscriber] = {}
        self.tracks: list[UpTrack] = []
        self.screen_session_id = ""
        self.screen_stream_id = ""

    def start_screen(self, session_id: str, stream_id: str) -> bool:
        """Somebody announces a screen; False when another one shares already."""
        if self.screen_session_id not in ("", session_id):
            return False
        self.screen_session_id = session_id
        self.screen_stream_id = stream_id
        return True

    def stop_screen(self, session_id: str) -> bool:
        """Take the sharer's screen from everybody; its sound stays until it leaves. False: not the sharer."""
        if self.screen_session_id != session_id:
            return False
        self.screen_session_id = self.screen_stream_id = ""
        for track in [t for t in self.tracks if t.session_id == session_id]:
            if track.type is TrackType.SCREEN:
                self.remove_track(track)
        return True

    def add_track(self, track: UpTrack) -> None:
        """Announce a new track to everybody else who is ready; the others get it when they are."""
        self.tracks.append(track)
        for session in self._others(track.session_id):
            if session.ready and self._wants(session, track):
                session.subscribe(track)

    def remove_track(self, track: UpTrack) -> None:
        self.tracks.remove(track)
        for session in self._others(track.session_id):
            session.unsubscribe(track)

    def session_ready(self, session: Subscriber) -> None:
        """Announce everything that is there to a newcomer."""
        for track in self.tracks:
            if track.session_id != session.config.session_id and self._wants(session, track):
                session.subscribe(track)

    def leave(self, session_id: str) -> None:
        """Forget a session and its tracks."""
        self.sessions.pop(session_id, None)
        if self.screen_session_id == session_id:
            self.screen_session_id = self.screen_stream_id = ""
        for track in [t for t in self.tracks if t.session_id == session_id]:
            self.remove_track(track)

    def _others(self, session_id: str) -> Iterator[Subscriber]:
        return (s for s in self.sessions.values() if s.config.session_id != session_id)

    def _wants(self, receiver: Subscriber, track: UpTrack) -> bool:
        """AV1 only between two sides that both know it, and then not also VP8 (rtcd.md 3.5)."""
        if track.kind == "audio":
            return True
        sender = self.sessions.get(track.session_id)
        both_av1 = sender is not None and sender.config.av1_support and receiver.config.av1_support
        if track.codec == "AV1":
            return both_av1
        has_av1 = any(
            t.codec == "AV1" and t.session_id == track.session_id and t.type is track.type
            for t in self.tracks
        )
        return not (both_av1 and has_av1)
