"""Follows the call's events and tells the recording what to show and what to play."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

from callclient.events import (
    CallEvent,
    HostChanged,
    MediaLost,
    MediaRestored,
    ParticipantJoined,
    ParticipantRemoved,
    Reacted,
    SignalingLost,
    SignalingRestored,
    SpeakingChanged,
    TrackAdded,
)
from callclient.receive.tracks import RemoteTrack
from callclient.state import CallState
from jobs.recorder.happenings import Emoji, Happenings
from jobs.recorder.inbox import Inbox, SceneChange, TrackFrame, TrackOver
from jobs.recorder.mishaps import Mishaps
from jobs.recorder.people import People, PeopleSource
from jobs.recorder.scene import Scene, build_scene


class CallWatcher:
    """Lives on the event loop; `tasks` owns its readers and lookups.

    An event, a track or a profile that it cannot make sense of is passed over: the recording goes on.
    """

    def __init__(
        self,
        state: CallState,
        inbox: Inbox,
        source: PeopleSource,
        tasks: asyncio.TaskGroup,
        *,
        channel_id: str,
        face: Callable[[bytes], bytes],
        mishaps: Mishaps | None = None,
    ) -> None:
        """`face`: as of `People`."""
        self._state = state
        self._inbox = inbox
        self._tasks = tasks
        self._people = People(source, channel_id=channel_id, on_found=self._update_scene, face=face)
        self._heard_by_server: set[str] = set()
        self._happenings = Happenings()
        self._host_user_id = ""
        self._signaling_lost_ns: int | None = None
        self._media_lost_ns: int | None = None
        self._media_away_ns = 0
        self.packets = 0
        """Frames of all tracks that came so far."""
        self._scene = Scene()
        self._running: set[asyncio.Task[None]] = set()
        self._mishaps = mishaps or Mishaps()

    def event_came(self, event: CallEvent) -> None:
        """Every event, in order."""
        try:
            self._take(event)
        except Exception as error:  # noqa: BLE001 - the next one tells the whole state again
            self._mishaps.note("event", error)

    def _take(self, event: CallEvent) -> None:
        now_ns = time.monotonic_ns()
        match event:
            case TrackAdded(track=track):
                self._start(self._read(track), name="track")
                return
            case SpeakingChanged():
                self._heard_by_server.add(event.session_id)
            case ParticipantJoined():
                self._first_sight(event.session_id, event.user_id)
            case Reacted():
                emoji = Emoji(event.emoji_name, event.emoji_unified, event.emoji_literal)
                self._happenings.reacted(event.session_id, emoji, now_ns)
            case HostChanged():
                self._host_changed(event.user_id, now_ns)
            case ParticipantRemoved():
                self._happenings.removed(event.session_id, now_ns)
            case SignalingLost():
                self._signaling_lost_ns = now_ns
            case SignalingRestored():
                self._signaling_lost_ns = None
            case MediaLost(since_ns=since_ns):
                self._media_lost_ns = since_ns
            case MediaRestored(at_ns=at_ns):
                self._media_restored(at_ns)
            case _:
                pass
        # The state may know sessions that no event named.
        for participant in self._state.participants.values():
            self._first_sight(participant.session_id, participant.user_id)
        self._update_scene(now_ns)

    @property
    def sending(self) -> int:
        """How many should be heard or seen now: unmuted, or sharing the screen."""
        unmuted = {p.session_id for p in self._state.participants.values() if not p.muted}
        return len(unmuted | {self._state.screen_session_id} - {""})

    @property
    def participants(self) -> int:
        return len(self._state.participants)

    def media_lost_s(self, now_ns: int) -> float:
        """How long there was no connection for media in all."""
        since_ns = self._media_lost_ns
        return (self._media_away_ns + (now_ns - since_ns if since_ns is not None else 0)) / 1e9

    def close(self) -> None:
        """Stop reading and looking up."""
        for task in self._running:
            task.cancel()

    async def _read(self, track: RemoteTrack) -> None:
        try:
            async for frame in track.frames():
                self.packets += 1
                self._inbox.put(TrackFrame(track, frame))
        finally:
            self._inbox.put(TrackOver(track))

    def _media_restored(self, at_ns: int) -> None:
        if self._media_lost_ns is not None:
            self._media_away_ns += max(0, at_ns - self._media_lost_ns)
        self._media_lost_ns = None

    def _lost_since_ns(self) -> int | None:
        """The earlier of both: what is missing in the picture or the sound is missing since then."""
        lost = (self._signaling_lost_ns, self._media_lost_ns)
        return min((since_ns for since_ns in lost if since_ns is not None), default=None)

    def _host_changed(self, user_id: str, now_ns: int) -> None:
        known, self._host_user_id = self._host_user_id, user_id
        if not known or not user_id or known == user_id:
            return  # nobody became the host who was not
        session_id = next(
            (p.session_id for p in self._state.participants.values() if p.user_id == user_id), None
        )
        if session_id is not None:
            self._happenings.host_changed(session_id, now_ns)

    def _first_sight(self, session_id: str, user_id: str) -> None:
        # At once: later the session may be gone, and with it the name (trap 33).
        if self._people.first_sight(session_id):
            self._start(self._people.look_up(session_id, user_id), name="profile")

    def _start(self, work: Coroutine[None, None, None], *, name: str) -> None:
        task = self._tasks.create_task(self._at_own_cost(work, name=name), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _at_own_cost(self, work: Coroutine[None, None, None], *, name: str) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the group would end everything
            self._mishaps.note(name, error)

    def _update_scene(self, now_ns: int | None = None) -> None:
        now_ns = now_ns or time.monotonic_ns()
        scene = build_scene(
            self._state,
            person_of=self._people.find,
            heard_by_server=self._heard_by_server.__contains__,
            reactions=self._happenings.reactions(now_ns),
            notices=self._happenings.notices(now_ns),
            lost_since_ns=self._lost_since_ns(),
        )
        if scene != self._scene:
            self._scene = scene
            self._inbox.put(SceneChange(now_ns, scene))
