"""The pictures of the recording: what is to be seen when, written only when something changes.

Every change has a time: scenes when their event came, screen pictures when they were captured, speech when
it was heard. They are applied in that order once the recording has come that far, so that sound and
pictures stay together however long network, decoder or encoder took.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from callclient.receive.tracks import EncodedFrame
from jobs.recorder.compositor import Compositor, Planes, View
from jobs.recorder.inbox import SceneChange
from jobs.recorder.mp4 import VIDEO_CLOCK_HZ
from jobs.recorder.scene import Scene
from jobs.recorder.screen import ScreenPicture, ScreenTrack

_NS: Final = 1_000_000_000
_IDLE_NS: Final = _NS // 2
"""Without any change a frame is written this often, so that a player can show something soon."""
_MAX_BEHIND_NS: Final = _NS
"""Farther behind than this, pictures are left out: sound never is."""


@dataclass(frozen=True, slots=True)
class SpeakingChange:
    """Heard by our own ear."""

    time_ns: int
    session_id: str
    speaking: bool


class PictureSink(Protocol):
    """Where frames go: `jobs.recorder.mp4.Mp4Writer`."""

    def write_picture(self, planes: Planes, *, ticks: int, duration: int) -> None:
        """Shown from `ticks` on, 1/90000 s since the start of the recording."""


class PictureLine:
    """Blocking; owned by one thread."""

    def __init__(
        self,
        sink: PictureSink,
        compositor: Compositor,
        *,
        frame_rate: int,
        zero_ns: int,
        zero_utc: datetime,
    ) -> None:
        """`zero_ns` and `zero_utc` are the same moment on two clocks."""
        self._sink = sink
        self._compositor = compositor
        self._interval_ns = -(-_NS // frame_rate)
        self._zero_ns, self._zero_utc = zero_ns, zero_utc
        self._changes: list[tuple[int, int, SceneChange | SpeakingChange]] = []
        self._changes_seen = 0
        self._screens: dict[str, ScreenTrack] = {}
        """By track."""
        self._session_of: dict[str, str] = {}
        self._scene = Scene()
        self._speaking: set[str] = set()
        self._shown: ScreenPicture | None = None
        self._view: View | None = None
        self._last_ns: int | None = None
        self.skipped_ns = 0
        """Recording time without new pictures because drawing and encoding were too slow."""

    @property
    def screens(self) -> tuple[ScreenTrack, ...]:
        return tuple(self._screens.values())

    def push(self, change: SceneChange | SpeakingChange) -> None:
        """Remember a change until its time comes."""
        self._changes_seen += 1  # keeps changes of one moment in their order
        heapq.heappush(self._changes, (change.time_ns, self._changes_seen, change))

    def push_screen(self, track_id: str, session_id: str, frame: EncodedFrame) -> None:
        """Decode a frame of a shared screen."""
        self._session_of[track_id] = session_id
        self._screens.setdefault(track_id, ScreenTrack()).push(frame)

    def end_track(self, track_id: str) -> None:
        """No more frames will come from it."""
        self._screens.pop(track_id, None)
        self._session_of.pop(track_id, None)

    def waiting_for_key_frame(self) -> list[str]:
        """Tracks that cannot be decoded before a key frame comes."""
        return [track_id for track_id, track in self._screens.items() if track.wants_key_frame]

    def advance(self, until_ns: int) -> None:
        """Write every frame that is due up to `until_ns`."""
        while (at_ns := self._next_ns()) <= until_ns:
            behind_ns = until_ns - at_ns - _MAX_BEHIND_NS
            if behind_ns > 0:
                self.skipped_ns += behind_ns
                at_ns += behind_ns
            self._apply(at_ns)
            view = self._current_view(at_ns)
            idle = self._last_ns is None or at_ns - self._last_ns >= _IDLE_NS
            if idle or view != self._view:
                self._write(view, at_ns, duration_ns=self._interval_ns)

    def finish(self, stop_ns: int) -> None:
        """The pictures end at `stop_ns`."""
        self.advance(stop_ns - self._interval_ns)
        if self._last_ns is None:
            return
        at_ns = max(stop_ns - self._interval_ns, self._last_ns + self._interval_ns)
        if at_ns < stop_ns:
            self._apply(at_ns)
            self._write(self._current_view(at_ns), at_ns, duration_ns=stop_ns - at_ns)

    def _next_ns(self) -> int:
        if self._last_ns is None:
            return self._zero_ns
        due_ns = self._last_ns + _IDLE_NS
        if self._changes:
            due_ns = min(due_ns, self._changes[0][0])
        for track_id, track in self._screens.items():
            if self._session_of[track_id] == self._scene.screen_session_id:
                due_ns = min(due_ns, track.next_time_ns() or due_ns)
        return max(due_ns, self._last_ns + self._interval_ns)

    def _apply(self, at_ns: int) -> None:
        while self._changes and self._changes[0][0] <= at_ns:
            change = heapq.heappop(self._changes)[2]
            if isinstance(change, SceneChange):
                if change.scene.screen_session_id != self._scene.screen_session_id:
                    self._shown = None
                self._scene = change.scene
            elif change.speaking:
                self._speaking.add(change.session_id)
            else:
                self._speaking.discard(change.session_id)
        for track_id, track in self._screens.items():
            picture = track.take(at_ns)
            if picture is not None and self._session_of[track_id] == self._scene.screen_session_id:
                self._shown = picture

    def _current_view(self, at_ns: int) -> View:
        speaking = frozenset(
            tile.session_id
            for tile in self._scene.tiles
            if not tile.muted
            and (tile.session_id in self._speaking if tile.speaking is None else tile.speaking)
        )
        now = self._zero_utc + timedelta(microseconds=(at_ns - self._zero_ns) // 1000)
        minute = now.replace(second=0, microsecond=0)
        return View(self._scene, speaking, minute, self._shown)

    def _write(self, view: View, at_ns: int, *, duration_ns: int) -> None:
        self._sink.write_picture(
            self._compositor.compose(view),
            ticks=_ticks(at_ns - self._zero_ns),
            duration=_ticks(duration_ns),
        )
        self._view, self._last_ns = view, at_ns


def _ticks(duration_ns: int) -> int:
    return duration_ns * VIDEO_CLOCK_HZ // _NS
