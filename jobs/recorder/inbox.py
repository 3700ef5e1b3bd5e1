"""From the event loop to the media thread: bounded, never blocking. Imports nothing heavy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Final

from callclient.receive.tracks import EncodedFrame, RemoteTrack
from jobs.recorder.scene import Scene

_CAPACITY: Final = 32_768
"""About a minute of ten voices and a screen."""
_ENDS_KEPT: Final = 1024
"""Ends of tracks that had no room."""


@dataclass(frozen=True, slots=True)
class SceneChange:
    """The call's state after an event."""

    time_ns: int
    scene: Scene


@dataclass(frozen=True, slots=True)
class TrackFrame:
    """A frame of a track, on its way to the thread."""

    track: RemoteTrack
    frame: EncodedFrame


@dataclass(frozen=True, slots=True)
class TrackOver:
    """A track's last frame was before this."""

    track: RemoteTrack


Item = TrackFrame | TrackOver | SceneChange


class Inbox:
    """From the event loop to the thread; full, it loses the oldest item and counts it.

    Of the scenes that had no room the newest comes nevertheless, in its place: each is the whole state, and
    in a quiet call the next one may be an hour away. So do ends of tracks, which nobody tells twice.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._scene: SceneChange | None = None
        self._ends: deque[TrackOver] = deque(maxlen=_ENDS_KEPT)
        """These and the scene had no room; they are older than all items."""
        self._lock = Lock()
        """Held for a few instructions: what is moved aside must not be overtaken."""
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Called on the event loop only."""
        with self._lock:
            self._items.append(item)
            if len(self._items) > _CAPACITY:
                self._move_aside(self._items.popleft())

    def get(self) -> Item | None:
        """The oldest item, or None."""
        with self._lock:
            if self._scene is not None:
                scene, self._scene = self._scene, None
                return scene
            if self._ends:
                return self._ends.popleft()
            return self._items.popleft() if self._items else None

    def _move_aside(self, item: Item) -> None:
        match item:
            case TrackFrame():
                self.dropped += 1
            case SceneChange():
                self.dropped += self._scene is not None
                self._scene = item
            case TrackOver():
                self.dropped += len(self._ends) == _ENDS_KEPT
                self._ends.append(item)
