"""One recording: decodes, mixes, draws and encodes what comes through the inbox, in its own thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from callclient.receive.tracks import RemoteTrack, TrackSource
from foundation.logs import get_logger
from foundation.resident import give_back_unused
from jobs.recorder.companions import Companions
from jobs.recorder.decoding.decoder import FrameDecoder
from jobs.recorder.encoder_choice import X264
from jobs.recorder.framing import Framing
from jobs.recorder.inbox import Inbox, Item, SceneChange, TrackFrame, TrackOver
from jobs.recorder.mishaps import Mishaps
from jobs.recorder.mp4 import Mp4Writer
from jobs.recorder.pace import STEPS, Pace, Step
from jobs.recorder.picture_line import PictureLine, PictureSource
from jobs.recorder.settings import RecorderSettings
from jobs.recorder.sound_line import SoundLine

LATENCY_NS: Final = 1_000_000_000
"""How far the recording stays behind the call: longer than the receive path waits for a lost packet."""
_log = get_logger(component="recording")
_FIGURES_EVERY_NS: Final = 1_000_000_000
_MOST_AHEAD_NS: Final = 5_000_000_000
"""Of the sound that is written; the mixer holds twice that."""
_DEAF_NS: Final = 10_000_000_000
_DEAF_PACKETS: Final = 500
"""10 s of one voice."""
_SETTLED_NS: Final = 5_000_000_000
"""From the start until the first people and pictures have been drawn."""
_GIVE_BACK_EVERY_NS: Final = 60_000_000_000
"""What is needed when somebody comes or a share begins, fonts first of all, lies idle afterwards."""


class RecordingDeaf(Exception):
    """No voice can be recorded any more: better an early end that is told than silence that is not."""


class Recording:
    """The path from items to the file, without a clock of its own: `advance` says how far time is."""

    def __init__(
        self,
        writer: Mp4Writer,
        compositor: PictureSource,
        settings: RecorderSettings,
        *,
        zero_ns: int,
        zero_utc: datetime,
        decoder: FrameDecoder,
        mishaps: Mishaps | None = None,
    ) -> None:
        """`decoder` is closed by its owner. `mishaps`: those of the `compositor` and of whoever watches the
        call too; counted together."""
        self._writer = writer
        self._decoder = decoder
        self._mishaps = mishaps or Mishaps()
        self._sound = SoundLine(writer, zero_ns=zero_ns)
        self._companions = Companions(settings, zero_ns=zero_ns, mishaps=self._mishaps)
        self._pictures = PictureLine(
            writer,
            compositor,
            frame_rate=settings.frame_rate,
            zero_ns=zero_ns,
            zero_utc=zero_utc,
            decoder=decoder,
            framing=Framing.of(settings),
            mishaps=self._mishaps,
        )
        self._tracks: dict[str, RemoteTrack] = {}
        self._eased = (False, False)
        self._voices_failed = 0
        """Packets of voices in a row that could not be taken."""
        self._voices_fail_since_ns = 0

    def take(self, item: Item) -> None:
        """Decode a frame, or note a change. What one item spoils is its own share.

        Raises:
            RecordingDeaf: in 10 s no packet of any voice could be taken. Broken ones do not count: they are
                made up for, and nobody in the call shall be able to end the recording.
        """
        try:
            self._take(item)
        except Exception as error:  # noqa: BLE001 - anybody in the call may send anything
            self._mishaps.note("item", error)
            if isinstance(item, TrackFrame) and item.track.source is TrackSource.VOICE:
                self._voice_failed(item.frame.time_ns, error)
        else:
            if isinstance(item, TrackFrame) and item.track.source is TrackSource.VOICE:
                self._voices_failed = 0

    def _voice_failed(self, time_ns: int, error: Exception) -> None:
        if self._voices_failed == 0:
            self._voices_fail_since_ns = time_ns
        self._voices_failed += 1
        lasting_ns = time_ns - self._voices_fail_since_ns
        if self._voices_failed >= _DEAF_PACKETS and lasting_ns >= _DEAF_NS:
            raise RecordingDeaf from error

    def _take(self, item: Item) -> None:
        match item:
            case SceneChange():
                self._pictures.push(item)
                self._companions.scene_changed(item)
            case TrackOver(track):
                self._tracks.pop(track.track_id, None)
                self._sound.end_track(track.track_id)
                self._pictures.end_track(track.track_id)
            case TrackFrame(track, frame):
                self._tracks[track.track_id] = track
                if track.source is TrackSource.VOICE:
                    self._companions.voice(track.session_id, frame)
                if track.source.is_audio:
                    change = self._sound.push(track.track_id, track.session_id, track.source, frame)
                    if change is not None:
                        self._pictures.push(change)
                elif track.source is TrackSource.VIDEO:
                    self._pictures.push_camera(track.track_id, track.session_id, frame)
                else:
                    self._pictures.push_screen(track.track_id, track.session_id, frame)

    def items_lost(self) -> None:
        """Some were dropped before those that come now."""
        self._pictures.frames_lost()

    def catch_up(self, time_ns: int) -> None:
        """A packet of that time is next: after a stall, write the sound before it, or it would have no room.

        Raises Mp4Error.
        """
        if time_ns - self._sound.written_ns > _MOST_AHEAD_NS:
            self._write_sound(time_ns - LATENCY_NS)

    def advance(self, until_ns: int) -> None:
        """Write everything up to `until_ns`. Raises Mp4Error."""
        self._write_sound(until_ns)
        self._pictures.advance(until_ns)
        self._companions.advance(until_ns)

    def ease(self, step: Step) -> None:
        """Pictures cost as much as that from now on."""
        self._pictures.limit_rate(step.rate_share)
        if (step.lighter, step.smaller) != self._eased:
            self._eased = step.lighter, step.smaller
            self._writer.ease(lighter=step.lighter, smaller=step.smaller)

    def _write_sound(self, until_ns: int) -> None:
        for change in self._sound.advance(until_ns):
            self._pictures.push(change)

    def finish(self, stop_ns: int) -> None:
        """Write the rest up to `stop_ns` and end the file. Raises Mp4Error."""
        self._companions.flush()
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
        """Close the file as it is: it cannot be written any more. Never raises: it can be played anyhow."""
        with suppress(Exception):
            self._writer.close()

    def blocked_tracks(self) -> list[RemoteTrack]:
        """Screens that show nothing new before a key frame comes (trap 23)."""
        waiting = self._pictures.waiting_for_key_frame()
        return [self._tracks[track_id] for track_id in waiting if track_id in self._tracks]

    def figures(self) -> dict[str, int | float]:
        """Counters for the metrics line."""
        mixer = self._sound.mixer
        return {
            "frames_written": self._writer.frames,
            "encoder_hardware": int(self._writer.encoder != X264),
            "encoder_fell_back": int(self._writer.fell_back),
            "speaker_packets_dropped": self._companions.packets_dropped,
            "picture_skipped_s": round(self._pictures.skipped_ns / 1e9, 3),
            "audio_late_s": round(mixer.samples_late / 48_000, 3),
            "audio_dropped_s": round(mixer.samples_far / 48_000, 3),
            "audio_packets_broken": self._sound.packets_broken,
            "picture_interrupted_s": round(self._pictures.interrupted_ns / 1e9, 3),
            "mishaps": self._mishaps.count,
            **self._decoder.figures(),
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
        self._dropped = 0
        """Of the inbox, as known to the recording."""
        self._pace = Pace(now_ns=time.monotonic_ns())
        self._give_back_ns = 0
        """When what is not used is given back next."""

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
        """Record until stopped. Raises Mp4Error, and whatever else went wrong where it could not be passed
        over; the file then holds what came before, and is closed."""
        give_back_unused()  # all is loaded and set up now
        self._give_back_ns = time.monotonic_ns() + _SETTLED_NS
        try:
            self._run()
        except BaseException:
            self._recording.abandon()
            raise

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._step(time.monotonic_ns() - LATENCY_NS)
            if time.monotonic_ns() >= self._give_back_ns:
                give_back_unused()
                self._give_back_ns = time.monotonic_ns() + _GIVE_BACK_EVERY_NS
        while (until_ns := time.monotonic_ns() - LATENCY_NS) < self._stop_ns:
            # What was said just before the end is still on its way.
            self._step(until_ns)
            time.sleep(self._interval_s)
        self._drain()
        self._recording.finish(self._stop_ns)
        self._report_figures()

    def _step(self, until_ns: int) -> None:
        began_ns = time.monotonic_ns()
        self._drain()
        self._recording.advance(until_ns)
        now_ns = time.monotonic_ns()
        if self._pace.worked(now_ns - began_ns, now_ns):
            _log.warning("pictures.pace", level=self._pace.level, of=len(STEPS) - 1)
            self._recording.ease(self._pace.step)
        for track in self._recording.blocked_tracks():
            self._on_blocked(track)
        if until_ns - self._reported_ns > _FIGURES_EVERY_NS:
            self._reported_ns = until_ns
            self._report_figures()

    def _drain(self) -> None:
        while (item := self._inbox.get()) is not None:
            if (dropped := self._inbox.dropped) != self._dropped:
                self._dropped = dropped
                self._recording.items_lost()
            if isinstance(item, TrackFrame):
                time_ns = item.frame.time_ns
                if self._stopping.is_set():
                    time_ns = min(time_ns, self._stop_ns)
                self._recording.catch_up(time_ns)
            self._recording.take(item)

    def _report_figures(self) -> None:
        pace = {"pace_level": self._pace.level, "pace_slowest": self._pace.slowest}
        self._on_figures(
            {**self._recording.figures(), **pace, "inbox_dropped": self._inbox.dropped}
        )
