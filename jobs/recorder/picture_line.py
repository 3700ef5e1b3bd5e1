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
from jobs.recorder.compositor import View
from jobs.recorder.decoding.decoder import FrameDecoder
from jobs.recorder.encoders import VIDEO_CLOCK_HZ
from jobs.recorder.framing import Framing
from jobs.recorder.inbox import SceneChange
from jobs.recorder.mishaps import Mishaps
from jobs.recorder.planes import Planes
from jobs.recorder.scene import Scene
from jobs.recorder.screen import ScreenTrack
from jobs.recorder.videos import Videos

_NS: Final = 1_000_000_000
_IDLE_NS: Final = _NS // 4
"""Without any change a frame is written this often: sound waits for it on its way to the disk."""
_RAREST_NS: Final = _NS // 2
"""A slow host gets no fewer frames than this. Each is said to last that long, because the file may not put
the next one later (`Mp4Writer.write_picture`)."""
_MAX_BEHIND_NS: Final = _NS
"""Farther behind than this, pictures are left out: sound never is."""


@dataclass(frozen=True, slots=True)
class SpeakingChange:
    """Heard by our own ear."""

    time_ns: int
    session_id: str
    speaking: bool
    sending: bool = True
    """Packets of their voice come. Without any nobody speaks, whatever was told: the server tells by what
    packets say, and falls silent with them."""


class PictureSource(Protocol):
    """Where frames come from: `jobs.recorder.compositor.Compositor`, `jobs.recorder.still.StillPicture`."""

    def compose(self, view: View) -> Planes:
        """The frame; read-only, and valid until the next one is asked for."""

    def blank(self) -> Planes:
        """A frame with nothing in it."""


class PictureSink(Protocol):
    """Where frames go: `jobs.recorder.mp4.Mp4Writer`."""

    def write_picture(self, planes: Planes, *, ticks: int, duration: int) -> None:
        """Shown from `ticks` on, 1/90000 s since the start of the recording."""


class PictureLine:
    """Blocking; owned by one thread."""

    def __init__(
        self,
        sink: PictureSink,
        compositor: PictureSource,
        *,
        frame_rate: int,
        zero_ns: int,
        zero_utc: datetime,
        decoder: FrameDecoder,
        framing: Framing | None = None,
        mishaps: Mishaps | None = None,
    ) -> None:
        """`zero_ns` and `zero_utc` are the same moment on two clocks; `framing` None: all is shown."""
        self._framing = framing or Framing()
        self._mishaps = mishaps or Mishaps()
        self._sink = sink
        self._compositor = compositor
        self._asked_interval_ns = self._interval_ns = -(-_NS // frame_rate)
        self._budget_ns = zero_ns
        """When the next frame would be due if all came evenly."""
        self._zero_ns, self._zero_utc = zero_ns, zero_utc
        self._changes: list[tuple[int, int, SceneChange | SpeakingChange]] = []
        self._changes_seen = 0
        self._videos = Videos(decoder)
        self._scene = Scene()
        self._speaking: set[str] = set()
        self._not_sending: set[str] = set()
        """Sessions whose voice came and comes no more."""
        self._view: View | None = None
        self._planes: Planes | None = None
        """The frame written last."""
        self._last_ns: int | None = None
        self._applied_ns = zero_ns
        """What happens up to then is in the scene, whether it is to be seen or not."""
        self.interrupted_ns = 0
        """Recording time in which pictures that were to be seen stood still for want of their decoder."""
        self.skipped_ns = 0
        """Recording time without new pictures because drawing and encoding were too slow."""

    @property
    def video_tracks(self) -> tuple[ScreenTrack, ...]:
        return self._videos.tracks

    def limit_rate(self, share: float) -> None:
        """From now on this share of the asked frame rate at most; two frames a second stay."""
        self._interval_ns = min(round(self._asked_interval_ns / share), _RAREST_NS)

    def push(self, change: SceneChange | SpeakingChange) -> None:
        """Remember a change until its time comes."""
        if isinstance(change, SceneChange):
            self._videos.foresee(self._framing.scene(change.scene), change.time_ns)
        self._changes_seen += 1  # keeps changes of one moment in their order
        heapq.heappush(self._changes, (change.time_ns, self._changes_seen, change))

    def push_screen(self, track_id: str, session_id: str, frame: EncodedFrame) -> None:
        """Remember a frame of a shared screen until its time comes."""
        if self._framing.takes_screens:
            self._videos.push(track_id, session_id, frame, camera=False)

    def push_camera(self, track_id: str, session_id: str, frame: EncodedFrame) -> None:
        """Remember a frame of a camera until its time comes."""
        if self._framing.takes_cameras:
            self._videos.push(track_id, session_id, frame, camera=True)

    def frames_lost(self) -> None:
        """Some that came are gone, of whichever tracks."""
        self._videos.frames_lost()

    def end_track(self, track_id: str) -> None:
        """No more frames will come from it."""
        self._videos.end(track_id)

    def waiting_for_key_frame(self) -> list[str]:
        """Tracks that cannot be decoded before a key frame comes."""
        return self._videos.waiting_for_key_frame()

    def advance(self, until_ns: int) -> None:
        """Write every frame that is due up to `until_ns`."""
        while (at_ns := self._next_ns()) <= until_ns:
            behind_ns = until_ns - at_ns - _MAX_BEHIND_NS
            if behind_ns > 0:
                self.skipped_ns += behind_ns
                at_ns += behind_ns
            if self._is_due(at_ns):
                self._write(at_ns, duration_ns=_RAREST_NS)

    def finish(self, stop_ns: int) -> None:
        """The pictures end at `stop_ns`."""
        self.advance(stop_ns - self._interval_ns)
        if self._last_ns is None:
            return
        at_ns = max(stop_ns - self._interval_ns, self._last_ns + self._interval_ns)
        if at_ns < stop_ns:
            self._is_due(at_ns)
            self._write(at_ns, duration_ns=stop_ns - at_ns, last=True)

    def _is_due(self, at_ns: int) -> bool:
        """Apply what has happened by then; is there anything new to be seen, or time for a frame anyway?"""
        idle = self._last_ns is None or at_ns - self._last_ns >= _IDLE_NS
        try:
            self._apply(at_ns)
            return idle or self._current_view(at_ns) != self._view
        except Exception as error:  # noqa: BLE001 - pictures stand still; the sound is worth more
            self._mishaps.note("scene", error)
            return True  # a frame that is written brings the next moment

    def _next_ns(self) -> int:
        if self._last_ns is None:
            return self._zero_ns
        due_ns = self._last_ns + _IDLE_NS
        if self._changes:
            due_ns = min(due_ns, self._changes[0][0])
        due_ns = min(due_ns, self._scene.next_change_ns(self._applied_ns) or due_ns)
        due_ns = min(due_ns, self._videos.next_time_ns() or due_ns)
        # Frames may come a little early, as those of a source whose times waver; on average the rate is kept.
        return max(due_ns, self._budget_ns - self._interval_ns // 2)

    def _apply(self, at_ns: int) -> None:
        while self._changes and self._changes[0][0] <= at_ns:
            change = heapq.heappop(self._changes)[2]
            if isinstance(change, SceneChange):
                self._scene = self._framing.scene(change.scene)
                self._videos.scene_changed(self._scene)
                self._not_sending &= {tile.session_id for tile in self._scene.tiles}
            else:
                _put(self._speaking, change.session_id, there=change.speaking)
                _put(self._not_sending, change.session_id, there=not change.sending)
        if self._videos.interrupted:
            self.interrupted_ns += max(0, at_ns - self._applied_ns)
        self._videos.take(at_ns)
        self._applied_ns = at_ns

    def _current_view(self, at_ns: int) -> View:
        scene = self._scene.at(at_ns)
        speaking = frozenset(
            tile.session_id
            for tile in scene.tiles
            if not tile.muted
            and tile.session_id not in self._not_sending
            and (tile.session_id in self._speaking if tile.speaking is None else tile.speaking)
        )
        scene = self._framing.ordered(scene, speaking, at_ns)
        now = self._zero_utc + timedelta(microseconds=(at_ns - self._zero_ns) // 1000)
        minute = now.replace(second=0, microsecond=0)
        return View(
            scene,
            speaking,
            minute,
            self._videos.screen(),
            self._videos.cameras(),
            scene.lost_s(at_ns),
            self._videos.interrupted,
        )

    def _write(self, at_ns: int, *, duration_ns: int, last: bool = False) -> None:
        self._sink.write_picture(
            self._frame(at_ns, last=last),
            ticks=_ticks(at_ns - self._zero_ns),
            duration=_ticks(duration_ns),
        )
        self._last_ns = at_ns
        self._budget_ns = max(self._budget_ns, at_ns) + self._interval_ns

    def _frame(self, at_ns: int, *, last: bool) -> Planes:
        """As it is then; the one before once more when something fails."""
        try:
            self._videos.show_alike(at_ns, last=last)
            view = self._current_view(at_ns)
            self._planes = self._compositor.compose(view)
            self._view = view
        except Exception as error:  # noqa: BLE001 - as in `_is_due`
            self._mishaps.note("picture", error)
            self._view = None
            if self._planes is None:
                self._planes = self._compositor.blank()
        return self._planes


def _put(sessions: set[str], session_id: str, *, there: bool) -> None:
    if there:
        sessions.add(session_id)
    else:
        sessions.discard(session_id)


def _ticks(duration_ns: int) -> int:
    return duration_ns * VIDEO_CLOCK_HZ // _NS
