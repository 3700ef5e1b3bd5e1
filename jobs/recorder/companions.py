"""What is kept of a recording beside pictures and sound while it is made: moments, speakers' own tracks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from callclient.receive.tracks import EncodedFrame
from jobs.recorder.artifacts import ARTIFACTS_DIR
from jobs.recorder.inbox import SceneChange
from jobs.recorder.mishaps import Mishaps
from jobs.recorder.moments import MOMENTS_NAME, MomentLog
from jobs.recorder.settings import RecorderSettings
from jobs.recorder.speaker_tracks import SpeakerTracks

_FLUSH_NS: Final = 1_000_000_000


class Companions:
    """Blocking; owned by one thread. Never raises: none of it is worth the recording."""

    def __init__(self, settings: RecorderSettings, *, zero_ns: int, mishaps: Mishaps) -> None:
        """`zero_ns`: the start of the recording."""
        self._mishaps = mishaps
        directory = settings.directory
        self._moments: MomentLog | None = None
        self._speakers: SpeakerTracks | None = None
        self._flushed_ns = zero_ns
        if settings.chapters or settings.wants("chapters") or settings.wants("poster"):
            self._moments = MomentLog(
                directory / MOMENTS_NAME, zero_ns=zero_ns, names=not settings.audio_only
            )
        if settings.wants("speakers"):
            self._speakers = SpeakerTracks(directory / ARTIFACTS_DIR, zero_ns=zero_ns)

    def scene_changed(self, change: SceneChange) -> None:
        """The call is so from then on."""
        with self._at_no_cost():
            if self._moments is not None:
                self._moments.note(change.scene, change.time_ns)
            if self._speakers is not None:
                self._speakers.note(change.scene)

    def voice(self, session_id: str, frame: EncodedFrame) -> None:
        """Somebody's packet."""
        if self._speakers is not None:
            with self._at_no_cost():
                self._speakers.push(session_id, frame)

    def advance(self, until_ns: int) -> None:
        """The recording has come so far."""
        if until_ns - self._flushed_ns >= _FLUSH_NS:
            self._flushed_ns = until_ns
            self.flush()

    def flush(self) -> None:
        """Bring everything to the disk."""
        if self._speakers is not None:
            with self._at_no_cost():
                self._speakers.flush()

    @property
    def packets_dropped(self) -> int:
        """Of speakers' own tracks."""
        return 0 if self._speakers is None else self._speakers.packets_dropped

    @contextmanager
    def _at_no_cost(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - none of it is worth the recording
            self._mishaps.note("companion", error)
