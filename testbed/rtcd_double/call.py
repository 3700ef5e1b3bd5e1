"""A call of the double: who is in it, and which track goes to whom (rtcd.md 3.5, 3.6)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

from sfu.media_port import SessionConfig
from testbed.rtcd_double.layers import Layer
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.tracks import Published, TrackType

_NS = 1_000_000_000


class Participant(Protocol):
    """Somebody in the call: a session, or a puppet that only publishes."""

    config: SessionConfig
    published: list[Published]


class Receiver(Participant, Protocol):
    """A participant that tracks can be sent to."""

    @property
    def ready(self) -> bool:
        """Its data channel is open and what was there before is queued."""

    @property
    def layer_for_new_screen(self) -> Layer: ...

    def queue_add(self, published: Published) -> None: ...

    def queue_remove(self, published: Published) -> None: ...

    def detach(self, published: Published) -> None:
        """Stop sending it at once, without a word in any description."""


class Call:
    """All participants of one call id."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.participants: dict[str, Participant] = {}
        self.receivers: dict[str, Receiver] = {}
        self.screen_session_id = ""
        self.screen_stream_id = ""
        self._key_frame_asked_ns: dict[int, int] = {}

    @property
    def empty(self) -> bool:
        return not self.participants

    def publish(self, track: Published) -> None:
        """A track's first packet came: announce it to everybody who is ready."""
        owner = self.participants[track.session_id]
        if track.type is TrackType.VOICE:
            # A later voice takes the earlier one's place; nobody who has the earlier one is told.
            owner.published[:] = [t for t in owner.published if t.type is not TrackType.VOICE]
        owner.published.append(track)
        for receiver in self._others(track.session_id):
            layer = receiver.layer_for_new_screen
            if receiver.ready and track.rid in ("", layer) and self._codec_fits(receiver, track):
                receiver.queue_add(track)

    def queue_existing(self, receiver: Receiver) -> None:
        """All that a newcomer gets: of each sender one voice, one screen, one camera."""
        for participant in self.participants.values():
            if participant.config.session_id != receiver.config.session_id:
                for track in participant.published:
                    # At the join it is always the low layer.
                    if track.rid in ("", "l") and self._codec_fits(receiver, track):
                        receiver.queue_add(track)

    def start_screen(self, session_id: str, stream_id: str) -> bool:
        """False: somebody shares already."""
        if self.screen_session_id:
            return False
        self.screen_session_id, self.screen_stream_id = session_id, stream_id
        return True

    def stop_screen(self, session_id: str) -> bool:
        """Take the screen from everybody; its sound stays. False: not the sharer."""
        if not session_id or self.screen_session_id != session_id:
            return False
        self.screen_session_id = self.screen_stream_id = ""
        owner = self.participants[session_id]
        screens = [t for t in owner.published if t.type is TrackType.SCREEN]
        for track in screens:
            owner.published.remove(track)
            for receiver in self._others(session_id):
                receiver.queue_remove(track)
        return True

    def leave(self, session_id: str) -> None:
        """Video is taken away with a word, audio without; its sections stay."""
        owner = self.participants.pop(session_id, None)
        self.receivers.pop(session_id, None)
        if owner is None:
            return
        if self.screen_session_id == session_id:
            self.screen_session_id = self.screen_stream_id = ""
        for track in owner.published:
            for receiver in self._others(session_id):
                if track.type.kind == "video":
                    receiver.queue_remove(track)
                else:
                    receiver.detach(track)

    def other_layer(self, track: Published) -> Published | None:
        """The same screen in the other simulcast layer."""
        owner = self.participants.get(track.session_id)
        wanted = "l" if track.rid == "h" else "h"
        return next(
            (
                t
                for t in (owner.published if owner is not None else ())
                if t.type is track.type and t.codec == track.codec and t.rid == wanted
            ),
            None,
        )

    def request_key_frame(self, track: Published) -> None:
        """Pass a PLI on, or drop it when the last one is too young."""
        now_ns = time.monotonic_ns()
        asked_ns = self._key_frame_asked_ns.get(track.ssrc)
        if asked_ns is None or now_ns - asked_ns >= self._script.key_frame_interval_s * _NS:
            self._key_frame_asked_ns[track.ssrc] = now_ns
            track.request_key_frame(track.ssrc)

    def _others(self, session_id: str) -> Iterator[Receiver]:
        return (r for own_id, r in self.receivers.items() if own_id != session_id)

    def _codec_fits(self, receiver: Receiver, track: Published) -> bool:
        """AV1 between two sides that say they know it, and then no VP8, even when there is no AV1."""
        if track.type.kind == "audio":
            return True
        sender = self.participants[track.session_id]
        both = sender.config.av1_support and receiver.config.av1_support
        return both == (track.codec == "AV1")
