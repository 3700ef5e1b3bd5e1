"""Moving pictures of the call: shared screens and cameras, each shown while its owner shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from callclient.receive.tracks import EncodedFrame
from jobs.recorder.decoding.decoder import FrameDecoder
from jobs.recorder.difference import Change, Difference
from jobs.recorder.scene import Scene
from jobs.recorder.screen import ScreenPicture, ScreenTrack

_ALIKE_EVERY_NS: Final = 1_000_000_000
_CAMERA_STALE_NS: Final = 4_000_000_000
"""A camera that sends nothing for so long is off, whatever was told of it."""


@dataclass(slots=True)
class _Video:
    session_id: str
    camera: bool
    track: ScreenTrack
    shown: ScreenPicture | None = None
    alike: ScreenPicture | None = None
    """Newer than `shown`, but nobody would see the difference."""
    ended: bool = False


class Videos:
    """By track. Blocking; owned by one thread."""

    def __init__(self, decoder: FrameDecoder) -> None:
        self._decoder = decoder
        self._videos: dict[str, _Video] = {}
        self._scene = Scene()
        self._cameras_on: frozenset[str] = frozenset()
        self._coming, self._coming_ns = Scene(), 0
        """The newest scene that is known of, and from when on it is so."""
        self._difference = Difference()
        self._alike_ns = 0
        """When `show_alike` last did."""

    @property
    def tracks(self) -> tuple[ScreenTrack, ...]:
        return tuple(video.track for video in self._videos.values())

    def push(self, track_id: str, session_id: str, frame: EncodedFrame, *, camera: bool) -> None:
        """Remember a frame until its time comes. A camera's is left out while a screen is shared: nobody sees
        it, and when it is seen again a key frame is asked for (`waiting_for_key_frame`)."""
        video = self._videos.get(track_id)
        if video is None:  # each has a decoder: not to be made for every frame
            # Whoever publishes a new track after the old one was shut out is still the same.
            owner = f"{session_id}/{'camera' if camera else 'screen'}"
            track = ScreenTrack(self._decoder, owner)
            video = self._videos[track_id] = _Video(session_id, camera, track)
        video.ended = False
        if camera and self._coming.screen_session_id and frame.time_ns >= self._coming_ns:
            video.track.skip()
        else:
            video.track.push(frame)

    def end(self, track_id: str) -> None:
        """No more frames will come from it; those that came are shown, and the last one stays as long as its
        owner shows something: that it is over is told later than it ends."""
        if track_id in self._videos:
            self._videos[track_id].ended = True
            self._remove_spent()

    def frames_lost(self) -> None:
        """Of which track nobody knows: each begins anew with a key frame instead of showing damage."""
        for video in self._videos.values():
            video.track.skip()

    def foresee(self, scene: Scene, from_ns: int) -> None:
        """It will be so from then on; `scene_changed` is told when the recording has come that far."""
        self._coming, self._coming_ns = scene, from_ns

    def scene_changed(self, scene: Scene) -> None:
        """Who shares a screen, and whose camera is on. What is not shown any more is forgotten."""
        another_screen = scene.screen_session_id != self._scene.screen_session_id
        self._scene = scene
        self._cameras_on = frozenset(t.session_id for t in scene.tiles if t.camera)
        for video in self._videos.values():
            if not self._wanted(video) or (another_screen and not video.camera):
                video.shown = video.alike = None
        self._remove_spent()

    def waiting_for_key_frame(self) -> list[str]:
        """Tracks that cannot be decoded before a key frame comes; of cameras those that will be seen."""
        coming = self._coming
        seen = {t.session_id for t in coming.tiles if t.camera and not coming.screen_session_id}
        return [
            track_id
            for track_id, video in self._videos.items()
            if video.track.wants_key_frame
            and not video.ended
            and (not video.camera or video.session_id in seen)
        ]

    def next_time_ns(self) -> int | None:
        """When the next picture that is to be seen is due, or a camera's last one becomes stale."""
        times = []
        for video in filter(self._wanted, self._videos.values()):
            times.append(video.track.next_time_ns())
            if video.camera and video.shown is not None:
                times.append(video.shown.time_ns + _CAMERA_STALE_NS)
        return min((time_ns for time_ns in times if time_ns is not None), default=None)

    def take(self, at_ns: int) -> None:
        """Show what is due; a screen's picture that looks as the shown one does waits for `show_alike`."""
        for video in self._videos.values():
            picture = video.track.take(at_ns)
            if picture is not None and self._wanted(video):
                change = self._change_from_shown(video, picture)
                if change is Change.SEEN:
                    video.shown, video.alike = picture, None
                else:  # the very same again is not shown: nothing has to be made of it
                    video.alike = picture if change is Change.FAINT else None
            elif video.track.shut_out or (video.camera and _is_stale(video.shown, at_ns)):
                video.shown = video.alike = None
        self._remove_spent()

    def show_alike(self, at_ns: int, *, last: bool = False) -> None:
        """A frame is written anyway: show what is newest, so that nothing is held back long, however faint.

        Once a second, and in the `last` frame: what is new in one has to be scaled and encoded.
        """
        if at_ns - self._alike_ns < _ALIKE_EVERY_NS and not last:
            return
        self._alike_ns = at_ns
        for video in self._videos.values():
            if video.alike is not None:
                video.shown, video.alike = video.alike, None

    @property
    def interrupted(self) -> bool:
        """A picture stands still that is to be seen, because its decoder was lost."""
        return any(
            video.track.interrupted and video.shown is not None
            for video in filter(self._wanted, self._videos.values())
        )

    def screen(self) -> ScreenPicture | None:
        """The newest picture of who shares."""
        pictures = [v.shown for v in self._videos.values() if not v.camera and v.shown is not None]
        return max(pictures, key=lambda picture: picture.time_ns, default=None)

    def cameras(self) -> tuple[tuple[str, ScreenPicture], ...]:
        """The newest by session; while a screen is shared nobody sees them."""
        newest: dict[str, ScreenPicture] = {}
        for video in self._videos.values():
            if video.camera and video.shown is not None:
                known = newest.get(video.session_id)
                if known is None or known.time_ns <= video.shown.time_ns:
                    newest[video.session_id] = video.shown
        return tuple(newest.items())

    def _change_from_shown(self, video: _Video, picture: ScreenPicture) -> Change:
        if video.camera or video.shown is None:  # cameras never stand still
            return Change.SEEN
        return self._difference.between(picture.frame, video.shown.frame)

    def _wanted(self, video: _Video) -> bool:
        if video.camera:
            return video.session_id in self._cameras_on and not self._scene.screen_session_id
        return bool(video.session_id) and video.session_id == self._scene.screen_session_id

    def _remove_spent(self) -> None:
        """Tracks that are over and have nothing more to show."""
        for track_id, video in list(self._videos.items()):
            waits = video.track.next_time_ns() is not None
            if video.ended and video.shown is None and not waits:
                video.track.close()
                del self._videos[track_id]


def _is_stale(picture: ScreenPicture | None, at_ns: int) -> bool:
    return picture is not None and at_ns - picture.time_ns >= _CAMERA_STALE_NS
