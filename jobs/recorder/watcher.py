"""Follows the call's events and tells the recording what to show and what to play."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine

from callclient.events import (
    CallEvent,
    CallStateReceived,
    ParticipantJoined,
    SpeakingChanged,
    TrackAdded,
)
from callclient.receive.tracks import RemoteTrack, TrackSource
from callclient.state import CallState
from jobs.recorder.inbox import Inbox, SceneChange, TrackFrame, TrackOver
from jobs.recorder.people import People, PeopleSource
from jobs.recorder.scene import Scene, build_scene


class CallWatcher:
    """Lives on the event loop; `tasks` owns its readers and lookups."""

    def __init__(
        self,
        state: CallState,
        inbox: Inbox,
        source: PeopleSource,
        tasks: asyncio.TaskGroup,
        *,
        channel_id: str,
    ) -> None:
        self._state = state
        self._inbox = inbox
        self._tasks = tasks
        self._people = People(source, channel_id=channel_id, on_found=self._update_scene)
        self._heard_by_server: set[str] = set()
        self._scene = Scene()
        self._running: set[asyncio.Task[None]] = set()

    def event_came(self, event: CallEvent) -> None:
        """Every event, in order."""
        match event:
            case TrackAdded(track=track) if track.source is not TrackSource.VIDEO:
                self._start(self._read(track), name="track")
                return
            case SpeakingChanged():
                self._heard_by_server.add(event.session_id)
            case ParticipantJoined():
                self._first_sight(event.session_id, event.user_id)
            case CallStateReceived():
                for participant in self._state.participants.values():
                    self._first_sight(participant.session_id, participant.user_id)
            case _:
                pass
        self._update_scene()

    def close(self) -> None:
        """Stop reading and looking up."""
        for task in self._running:
            task.cancel()

    async def _read(self, track: RemoteTrack) -> None:
        async for frame in track.frames():
            self._inbox.put(TrackFrame(track, frame))
        self._inbox.put(TrackOver(track))

    def _first_sight(self, session_id: str, user_id: str) -> None:
        # At once: later the session may be gone, and with it the name (trap 33).
        if self._people.first_sight(session_id):
            self._start(self._people.look_up(session_id, user_id), name="profile")

    def _start(self, work: Coroutine[None, None, None], *, name: str) -> None:
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _update_scene(self) -> None:
        scene = build_scene(
            self._state,
            person_of=self._people.find,
            heard_by_server=self._heard_by_server.__contains__,
        )
        if scene != self._scene:
            self._scene = scene
            self._inbox.put(SceneChange(time.monotonic_ns(), scene))
