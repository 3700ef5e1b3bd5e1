"""One recording: decodes, mixes, draws and encodes what comes through the inbox, in its own thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from callclient.receive.tracks import RemoteTrack
from jobs.recorder.compositor import Compositor
from jobs.recorder.inbox import Inbox, Item, SceneChange, TrackFrame, TrackOver
from jobs.recorder.mp4 import Mp4Error, Mp4Writer
from jobs.recorder.picture_line import PictureLine
from jobs.recorder.settings import RecorderSettings
from jobs.recorder.sound_line import SoundLine

LATENCY_NS: Final = 500_000_000
"""How far the recording stays behind the call: longer than the receive path waits for a lost packet."""
_FIGURES_EVERY_NS: Final = 1_000_000_000


class Recording:
    """The path from items to the file, without a clock of its own: `advance` says how far time is."""

    def __init__(
        self,
        writer: Mp4Writer,
        compositor: Compositor,
        settings: RecorderSettings,
        *,
        zero_ns: int,
        zero_utc: datetime,
    ) -> None:
        self._writer = writer
        self._sound = SoundLine(writer, zero_ns=zero_ns)
        self._pictures = PictureLine(
            writer,
            compositor,
            frame_rate=settings.frame_rate,
            zero_ns=zero_ns,
            zero_utc=zero_utc,
        )
        self._tracks: dict[str, RemoteTrack] = {}

    def take(self, item: Item) -> None:
        """Decode a frame, or note a change."""
        match item:
            case SceneChange():
                self._pictures.push(item)
            case TrackOver(track):
                self._tracks.pop(track.track_id, None)
                self._sound.end_track(track.track_id)
                self._pictures.end_track(track.track_id)
            case TrackFrame(track, frame):
                self._tracks[track.track_id] = track
                if track.source.is_audio:
                    change = self._sound.push(track.track_id, track.session_id, track.source, frame)
                    if change is not None:
                        self._pictures.push(change)
                else:
                    self._pictures.push_screen(track.track_id, track.session_id, frame)

    def advance(self, until_ns: int) -> None:
        """Write everything up to `until_ns`. Raises Mp4Error."""
        for change in self._sound.advance(until_ns):
            self._pictures.push(change)
        self._pictures.advance(until_ns)

    def finish(self, stop_ns: int) -> None:
        """Write the rest up to `stop_ns` and end the file. Raises Mp4Error."""
        try:
            self._sound.finish(stop_ns)
            self._pictures.finish(stop_ns)
        finally:
            self._writer.close()

    @property
    def empty(self) -> bool:
        """No picture was due before the end: there is nothing to be played."""
        return self._writer.frames == 0

    def abandon(self) -> None:
        """Close the file as it is: it cannot be written any more."""
        with suppress(Mp4Error):
            self._writer.close()

    def blocked_tracks(self) -> list[RemoteTrack]:
        """Screens that show nothing new before a key frame comes (trap 23)."""
        return [self._tracks[track_id] for track_id in self._pictures.waiting_for_key_frame()]

    def figures(self) -> dict[str, int | float]:
        """Counters for the metrics line."""
        mixer = self._sound.mixer
        return {
            "frames_written": self._writer.frames,
            "picture_skipped_s": round(self._pictures.skipped_ns / 1e9, 3),
            "audio_late_s": round(mixer.samples_late / 48_000, 3),
            "audio_dropped_s": round(mixer.samples_far / 48_000, 3),
            "audio_packets_broken": self._sound.packets_broken,
        }


class RecordingLoop:
    """Drives a `Recording` in real time. `run` blocks: call it in a thread; `stop` from anywhere."""

    def __init__(
        self,
        recording: Recording,
        inbox: Inbox,
        *,
        interval_s: float,
        on_blocked: Callable[[RemoteTrack], None],
        on_figures: Callable[[dict[str, int | float]], None],
    ) -> None:
        """`on_blocked` and `on_figures` are called in the thread."""
        self._recording = recording
        self._inbox = inbox
        self._interval_s = interval_s
        self._on_blocked = on_blocked
        self._on_figures = on_figures
        self._stopping = threading.Event()
        self._stop_ns = 0
        self._reported_ns = 0

    def stop(self, stop_ns: int) -> None:
        """The recording ends at `stop_ns`; `run` returns when everything up to then is written."""
        if not self._stopping.is_set():
            self._stop_ns = stop_ns
            self._stopping.set()

    @property
    def empty(self) -> bool:
        """Nothing was recorded. Read it when `run` has returned."""
        return self._recording.empty

    def run(self) -> None:
        """Record until stopped. Raises Mp4Error; the file then holds what came before, and is closed."""
        try:
            self._run()
        except Mp4Error:
            self._recording.abandon()
            raise

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._step(time.monotonic_ns() - LATENCY_NS)
        while (until_ns := time.monotonic_ns() - LATENCY_NS) < self._stop_ns:
            # What was said just before the end is still on its way.
            self._step(until_ns)
            time.sleep(self._interval_s)
        self._drain()
        self._recording.finish(self._stop_ns)
        self._report_figures()

    def _step(self, until_ns: int) -> None:
        self._drain()
        self._recording.advance(until_ns)
        for track in self._recording.blocked_tracks():
            self._on_blocked(track)
        if until_ns - self._reported_ns > _FIGURES_EVERY_NS:
            self._reported_ns = until_ns
            self._report_figures()

    def _drain(self) -> None:
        while (item := self._inbox.get()) is not None:
            self._recording.take(item)

    def _report_figures(self) -> None:
        self._on_figures({**self._recording.figures(), "inbox_dropped": self._inbox.dropped})
