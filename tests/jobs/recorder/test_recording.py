"""From frames to the file: sound and pictures at their true times, judged by beeps and flashes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from callclient.receive.latency import RECORDING
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from jobs.recorder.compositor import Compositor, View
from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.inbox import Inbox, SceneChange, TrackFrame, TrackOver
from jobs.recorder.mp4 import Mp4Writer, finish_mp4
from jobs.recorder.planes import Planes
from jobs.recorder.recording import LATENCY_NS, Recording, RecordingLoop
from jobs.recorder.scene import Person, Scene, Tile
from testbed.analysis.media import iter_pictures, luma, read_sound
from testbed.analysis.mp4_structure import read_mp4

ZERO_NS = 7_000_000_000
UTC_ZERO = datetime(2026, 1, 31, 10, 5, tzinfo=UTC)
ANN = Tile("s-ann", Person("u-ann", "ann"), False, None, False, 0)
SHARED = Scene((ANN,), 1, "s-ann")


def track(source: TrackSource, name: str = "ann") -> RemoteTrack:
    codec = Codec.OPUS if source.is_audio else Codec.VP8
    return RemoteTrack(
        track_id=f"{source.value}_{name}", session_id=f"s-{name}", source=source, codec=codec
    )


@pytest.fixture
def recording(tmp_path: Path, settings) -> Recording:
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    return Recording(
        writer,
        Compositor(1280, 720),
        settings,
        zero_ns=ZERO_NS,
        zero_utc=UTC_ZERO,
        decoder=LocalDecoder(),
    )


@pytest.fixture
def finished(tmp_path: Path, recording):
    def finish(stop_s: float) -> Path:
        for ms in range(0, round(stop_s * 1000), 50):
            recording.advance(ZERO_NS + ms * 1_000_000)
        recording.finish(ZERO_NS + round(stop_s * 1e9))
        finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
        return tmp_path / "done.mp4"

    return finish


def onsets(path: Path, *, level: float = 0.1) -> list[float]:
    """When it becomes loud after a tenth of a second of quiet, s."""
    sound = read_sound(path, rate_hz=16_000)
    loud = np.flatnonzero(np.abs(sound.samples) > level) / 16_000 + sound.start_s
    return [float(t) for t in loud[np.diff(loud, prepend=-1) > 0.1]]


def test_flashes_and_beeps_meet_and_both_streams_end_together(
    recording, finished, audio_frames, vp8
) -> None:
    voice, screen, source = track(TrackSource.SCREEN_AUDIO), track(TrackSource.SCREEN), vp8()
    recording.take(SceneChange(ZERO_NS, SHARED))
    for second in (1, 2, 3):
        for frame in audio_frames(0.2, zero_ns=ZERO_NS + second * 1_000_000_000):
            recording.take(TrackFrame(voice, frame))
    for tenth in range(40):
        bright = tenth % 10 in (0, 1)
        at_ns = ZERO_NS + tenth * 100_000_000
        recording.take(
            TrackFrame(screen, source.frame(220 if bright else 60, at_ns, key=tenth == 0))
        )
    path = finished(4.0)
    flashes, before = [], 0.0
    for at_s, frame in iter_pictures(path):
        now = float(luma(frame)[300:400, 600:700].mean())
        if now > 150 > before:
            flashes.append(at_s)
        before = now
    # The encoder of the test has a run-in of 6.5 ms.
    assert onsets(path) == pytest.approx([1.0065, 2.0065, 3.0065], abs=0.012)
    assert flashes[-3:] == pytest.approx([1.0, 2.0, 3.0], abs=0.01)
    found = read_mp4(path)
    assert found.video_duration_s == pytest.approx(4.0, abs=0.02)
    assert found.audio_duration_s == pytest.approx(4.0, abs=0.03)
    assert found.most_frames_in_a_second <= 20 + 1


def test_a_mute_of_five_seconds_is_five_seconds_of_silence(
    recording, finished, audio_frames
) -> None:
    voice = track(TrackSource.VOICE)
    for start_s in (0.5, 6.0):
        for frame in audio_frames(0.5, zero_ns=ZERO_NS + round(start_s * 1e9)):
            recording.take(TrackFrame(voice, frame))
    path = finished(7.0)
    assert onsets(path) == pytest.approx([0.5065, 6.0065], abs=0.012)
    silence = read_sound(path, rate_hz=16_000).between(1.3, 5.8)
    assert np.abs(silence.samples).max() < 0.01


def test_two_voices_at_once_are_both_in_the_mix(recording, finished, audio_frames) -> None:
    for name, hz in (("ann", 600), ("ben", 1700)):
        for frame in audio_frames(1.0, zero_ns=ZERO_NS, hz=hz, level=0.2):
            recording.take(TrackFrame(track(TrackSource.VOICE, name), frame))
    sound = read_sound(finished(1.2), rate_hz=16_000).between(0.3, 0.8)
    spectrum = np.abs(np.fft.rfft(sound.samples)) / len(sound.samples) * 2
    for hz in (600, 1700):
        assert spectrum[round(hz * len(sound.samples) / 16_000)] == pytest.approx(0.2, abs=0.05)


def test_what_came_before_the_start_is_not_in_the_file(recording, finished, audio_frames) -> None:
    voice = track(TrackSource.VOICE)
    for frame in audio_frames(1.0, zero_ns=ZERO_NS - 2_000_000_000):
        recording.take(TrackFrame(voice, frame))
    for frame in audio_frames(0.2, zero_ns=ZERO_NS + 500_000_000):
        recording.take(TrackFrame(voice, frame))
    assert onsets(finished(1.0)) == pytest.approx([0.5065], abs=0.012)


def test_late_packets_are_counted(recording, audio_frames) -> None:
    recording.advance(ZERO_NS + 1_000_000_000)
    for frame in audio_frames(0.1, zero_ns=ZERO_NS):
        recording.take(TrackFrame(track(TrackSource.VOICE), frame))
    assert recording.figures()["audio_late_s"] == pytest.approx(0.1, abs=0.03)


def test_a_screen_without_key_frame_asks_its_track(recording, vp8) -> None:
    screen, source = track(TrackSource.SCREEN), vp8()
    source.frame(1, ZERO_NS, key=True)
    recording.take(TrackFrame(screen, source.frame(1, ZERO_NS)))
    assert recording.blocked_tracks() == [screen]
    recording.take(TrackOver(screen))
    assert recording.blocked_tracks() == []


def test_a_full_inbox_loses_the_oldest_and_counts() -> None:
    inbox, voice = Inbox(), track(TrackSource.VOICE)
    for number in range(32_768 + 5):
        inbox.put(TrackFrame(voice, EncodedFrame(b"", number, 0, True, 0)))
    assert inbox.dropped == 5
    oldest = inbox.get()
    assert isinstance(oldest, TrackFrame)
    assert oldest.frame.time_ns == 5


def test_an_overflow_costs_neither_the_newest_scene_nor_the_end_of_a_track(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobs.recorder.inbox._CAPACITY", 4)
    inbox, voice = Inbox(), track(TrackSource.VOICE)
    inbox.put(SceneChange(1, Scene()))
    inbox.put(SceneChange(2, SHARED))
    inbox.put(TrackOver(voice))
    frames = [TrackFrame(voice, EncodedFrame(b"", number, 0, True, 0)) for number in range(9)]
    for frame in frames:
        inbox.put(frame)
    got = [inbox.get() for _ in range(7)]
    assert got == [SceneChange(2, SHARED), TrackOver(voice), *frames[-4:], None]
    assert inbox.dropped == 1 + 5


def test_a_scene_that_was_crowded_out_is_in_the_picture_though_nothing_follows(
    tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst of packets after the last change of an hour."""
    monkeypatch.setattr("jobs.recorder.inbox._CAPACITY", 4)
    views = Views()
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    recording = Recording(
        writer, views, settings, zero_ns=ZERO_NS, zero_utc=UTC_ZERO, decoder=LocalDecoder()
    )
    inbox, voice = Inbox(), track(TrackSource.VOICE)
    loop = RecordingLoop(
        recording,
        inbox,
        interval_s=0.05,
        on_blocked=lambda track: None,
        on_figures=lambda figures: None,
    )
    inbox.put(SceneChange(ZERO_NS + 1, Scene((ANN,), 1)))
    for number in range(9):
        inbox.put(TrackFrame(voice, EncodedFrame(b"", ZERO_NS + number, 0, True, 0)))
    loop._step(ZERO_NS)
    loop._step(ZERO_NS + 1_000_000_000)
    assert [view.scene.participants for view in views.seen] == [0, 1, 1, 1, 1]


def test_the_loop_records_what_was_on_its_way_when_it_was_stopped(
    tmp_path: Path, settings, audio_frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = ZERO_NS

    def sleep(seconds: float) -> bool:
        nonlocal now
        now += round(seconds * 1e9)
        return False

    inbox = Inbox()
    loop = RecordingLoop(
        Recording(
            Mp4Writer(tmp_path / "part.mp4", settings),
            Compositor(1280, 720),
            settings,
            zero_ns=ZERO_NS,
            zero_utc=UTC_ZERO,
            decoder=LocalDecoder(),
        ),
        inbox,
        interval_s=0.05,
        on_blocked=lambda track: None,
        on_figures=lambda figures: None,
    )

    said = audio_frames(0.3, zero_ns=ZERO_NS + 600_000_000)
    coming = [TrackFrame(track(TrackSource.VOICE), frame) for frame in said]

    def monotonic_ns() -> int:
        # After the stop packets come in that were said 450 ms before.
        if now >= ZERO_NS + 1_050_000_000:
            while coming:
                inbox.put(coming.pop(0))
        return now

    monkeypatch.setattr("jobs.recorder.recording.time.sleep", sleep)
    monkeypatch.setattr("jobs.recorder.recording.time.monotonic_ns", monotonic_ns)
    now = ZERO_NS + 1_000_000_000
    loop.stop(now)
    loop.run()
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    assert onsets(tmp_path / "done.mp4") == pytest.approx([0.6065], abs=0.012)
    assert read_mp4(tmp_path / "done.mp4").audio_duration_s == pytest.approx(1.0, abs=0.03)


def test_a_thread_that_stood_still_for_a_minute_loses_no_sound(
    tmp_path: Path, settings, audio_frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk or an encoder that hangs: everything waits in the inbox, far more than the mixer holds."""
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    recording = Recording(
        writer,
        Compositor(1280, 720),
        settings,
        zero_ns=ZERO_NS,
        zero_utc=UTC_ZERO,
        decoder=LocalDecoder(),
    )
    inbox, now = Inbox(), ZERO_NS + 62_000_000_000
    monkeypatch.setattr("jobs.recorder.recording.time.monotonic_ns", lambda: now)
    voice = track(TrackSource.VOICE)
    for second in range(0, 60, 6):
        for frame in audio_frames(0.3, zero_ns=ZERO_NS + second * 10**9 + 500_000_000):
            inbox.put(TrackFrame(voice, frame))
    figures: list[dict[str, float]] = []
    loop = RecordingLoop(
        recording,
        inbox,
        interval_s=0.05,
        on_blocked=lambda track: None,
        on_figures=figures.append,
    )
    loop.stop(ZERO_NS + 60_000_000_000)
    loop.run()
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    assert onsets(tmp_path / "done.mp4") == pytest.approx(
        [second + 0.5065 for second in range(0, 60, 6)], abs=0.012
    )
    assert figures[-1]["audio_dropped_s"] == figures[-1]["audio_late_s"] == 0
    assert read_mp4(tmp_path / "done.mp4").audio_duration_s == pytest.approx(60, abs=0.03)


def test_after_an_overflow_a_screen_begins_anew_with_a_key_frame_instead_of_damage(
    recording, vp8, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.recorder.inbox._CAPACITY", 4)
    inbox, screen, source, asked = Inbox(), track(TrackSource.SCREEN), vp8(), []
    loop = RecordingLoop(
        recording, inbox, interval_s=0.05, on_blocked=asked.append, on_figures=lambda figures: None
    )

    def come(first: int, count: int) -> None:
        for number in range(first, first + count):
            frame = source.frame(9 * number, ZERO_NS + number * 10_000_000, key=number == 0)
            inbox.put(TrackFrame(screen, frame))
        loop._step(ZERO_NS)

    inbox.put(SceneChange(ZERO_NS, SHARED))
    come(0, 3)
    assert (inbox.dropped, asked) == (0, [])
    come(3, 5)
    assert (inbox.dropped, asked) == (1, [screen])


def test_a_wall_clock_that_is_set_back_and_forward_changes_nothing(
    recording, finished, audio_frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 4e9] * 10_000)
    monkeypatch.setattr("time.time", lambda: next(times))
    for start_s in (0.5, 1.5):
        for frame in audio_frames(0.2, zero_ns=ZERO_NS + round(start_s * 1e9)):
            recording.take(TrackFrame(track(TrackSource.VOICE), frame))
    path = finished(2.0)
    assert onsets(path) == pytest.approx([0.5065, 1.5065], abs=0.012)
    assert read_mp4(path).video_duration_s == pytest.approx(2.0, abs=0.02)


def test_the_recording_stays_farther_behind_than_packets_are_waited_for() -> None:
    wait_s = max(RECORDING.audio_wait_s, RECORDING.video_wait_s)
    assert wait_s + 0.1 <= LATENCY_NS / 1e9, "or what was waited for comes too late for the mix"


def test_a_host_that_is_too_slow_gets_fewer_pictures_and_says_so(
    tmp_path: Path, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every picture takes a tenth of a second to make; twenty are asked for."""
    now, told, inbox = ZERO_NS + LATENCY_NS, [ZERO_NS], Inbox()
    recording = Recording(
        Mp4Writer(tmp_path / "part.mp4", settings),
        Slow(lambda: spend(100)),
        settings,
        zero_ns=ZERO_NS,
        zero_utc=UTC_ZERO,
        decoder=LocalDecoder(),
    )

    def spend(ms: int) -> None:
        nonlocal now
        now += ms * 1_000_000

    really_wait, really_sleep, here = threading.Event.wait, time.sleep, threading.get_ident()

    def wait(event: threading.Event, seconds: float | None = None) -> bool:
        if threading.get_ident() != here:  # a thread of another test
            return really_wait(event, seconds)
        spend(50)
        if now > ZERO_NS + 30_000_000_000:
            loop.stop(now)
        for at_ns in range(told[-1] + 50_000_000, now, 50_000_000):
            told.append(at_ns)  # somebody comes or goes all the time
            inbox.put(SceneChange(at_ns, Scene((), len(told))))
        return now > ZERO_NS + 30_000_000_000

    def sleep(seconds: float) -> None:
        if threading.get_ident() != here:
            really_sleep(seconds)
            return
        spend(50)

    monkeypatch.setattr("jobs.recorder.recording.time.monotonic_ns", lambda: now)
    monkeypatch.setattr("jobs.recorder.recording.time.sleep", sleep)
    monkeypatch.setattr("jobs.recorder.recording.threading.Event.wait", wait)
    figures: list[dict[str, float]] = []
    loop = RecordingLoop(
        recording,
        inbox,
        interval_s=0.05,
        on_blocked=lambda track: None,
        on_figures=figures.append,
    )
    loop.run()
    assert figures[-1]["pace_level"] == 2, "four pictures a second fit"
    assert figures[-1]["frames_written"] < 30 * 8
    assert figures[-1]["picture_skipped_s"] < 5


class Views(Compositor):
    """A compositor that keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__(1280, 720)
        self.seen: list[View] = []

    def compose(self, view: View) -> Planes:
        self.seen.append(view)
        return super().compose(view)


class Slow(Compositor):
    """A compositor that takes its time."""

    def __init__(self, spend) -> None:
        super().__init__(1280, 720)
        self._spend = spend

    def compose(self, view: View) -> Planes:
        self._spend()
        return super().compose(view)


def test_frames_shifted_by_a_fault_are_seen_as_shifted(recording, finished, audio_frames) -> None:
    """The judge of the tests above can fail."""
    for frame in audio_frames(0.2, zero_ns=ZERO_NS + 500_000_000):
        late = replace(frame, time_ns=frame.time_ns + 100_000_000)
        recording.take(TrackFrame(track(TrackSource.VOICE), late))
    assert onsets(finished(1.0)) == pytest.approx([0.6065], abs=0.012)


class Nothing:
    """A recording in which nothing happens."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        return lambda *_: {} if name == "figures" else ()


def test_what_is_not_used_is_given_back_at_the_start_when_it_has_settled_and_each_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, given_back = 1_000, []
    monkeypatch.setattr("jobs.recorder.recording.time.monotonic_ns", lambda: now * 1_000_000_000)
    monkeypatch.setattr(
        "jobs.recorder.recording.give_back_unused", lambda: given_back.append(now - 1_000)
    )
    loop = RecordingLoop(
        Nothing(),
        Inbox(),
        interval_s=1,
        on_blocked=lambda track: None,
        on_figures=lambda figures: None,
    )

    def wait(seconds: float) -> bool:
        nonlocal now
        now += seconds
        return now > 1_130

    monkeypatch.setattr(loop._stopping, "wait", wait)
    loop.run()
    assert given_back == [0, 5, 65, 125]
