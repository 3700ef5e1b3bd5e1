"""From the event loop to the media thread: bounded, never blocking. Imports nothing heavy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from callclient.receive.tracks import EncodedFrame, RemoteTrack
from jobs.recorder.scene import Scene

_CAPACITY: Final = 32_768
"""About a minute of ten voices and a screen."""


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
    """From the event loop to the thread; full, it loses the oldest item and counts it."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque(maxlen=_CAPACITY)
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Never blocks. Called on the event loop only."""
        if len(self._items) == _CAPACITY:
            self.dropped += 1
        self._items.append(item)

    def get(self) -> Item | None:
        """The oldest item, or None."""
        try:
            return self._items.popleft()
        except IndexError:
            return None
