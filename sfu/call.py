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

    def subscribe(self, track: UpTrack, *, live: bool) -> None:
        """Queue the announcement of a track, `live` if it is new in the call; returns at once."""

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
        """Announce a new track to everybody else who is ready; the others get it when they are.

        Who gets the AV1 of a picture loses its VP8, which came first and helped out.
        """
        self.tracks.append(track)
        for session in self._others(track.session_id):
            if session.ready and self.wants(session.config, track):
                session.subscribe(track, live=True)
                for twin in self._twins(track):
                    if not self.wants(session.config, twin):
                        session.unsubscribe(twin)

    def remove_track(self, track: UpTrack) -> None:
        """Take a track from everybody. Who had the AV1 of a picture gets its VP8, if there is one."""
        self.tracks.remove(track)
        for session in self._others(track.session_id):
            session.unsubscribe(track)
            for twin in self._twins(track):
                if session.ready and self.wants(session.config, twin):
                    session.subscribe(twin, live=True)

    def session_ready(self, session: Subscriber) -> None:
        """Announce everything that is there to a newcomer."""
        for track in self.tracks:
            if track.session_id != session.config.session_id and self.wants(session.config, track):
                session.subscribe(track, live=False)

    def leave(self, session_id: str) -> None:
        """Forget a session and its tracks."""
        self.sessions.pop(session_id, None)
        if self.screen_session_id == session_id:
            self.screen_session_id = self.screen_stream_id = ""
        for track in [t for t in self.tracks if t.session_id == session_id]:
            self.remove_track(track)

    def _others(self, session_id: str) -> Iterator[Subscriber]:
        return (s for s in self.sessions.values() if s.config.session_id != session_id)

    def _twins(self, track: UpTrack) -> list[UpTrack]:
        """The same picture in another codec."""
        if track.kind == "audio":
            return []
        return [
            other
            for other in self.tracks
            if (other.session_id, other.type) == (track.session_id, track.type)
            and other.codec != track.codec
        ]

    def wants(self, receiver: SessionConfig, track: UpTrack) -> bool:
        """AV1 only between two sides that both know it, and then not also VP8 (rtcd.md 3.5)."""
        if track.kind == "audio":
            return True
        sender = self.sessions.get(track.session_id)
        both_av1 = sender is not None and sender.config.av1_support and receiver.av1_support
        if track.codec == "AV1":
            return both_av1
        return not (both_av1 and any(twin.codec == "AV1" for twin in self._twins(track)))
