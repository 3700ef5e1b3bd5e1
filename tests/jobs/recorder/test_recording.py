"""From frames to the file: sound and pictures at their true times, judged by beeps and flashes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from callclient.receive.tracks import Codec, RemoteTrack, TrackSource
from jobs.recorder.compositor import Compositor
from jobs.recorder.inbox import Inbox, SceneChange, TrackFrame, TrackOver
from jobs.recorder.mp4 import Mp4Writer, finish_mp4
from jobs.recorder.recording import Recording, RecordingLoop
from jobs.recorder.scene import Person, Scene, Tile
from testbed.analysis.media import iter_pictures, luma, read_sound
from testbed.analysis.mp4_structure import read_mp4

ZERO_NS = 7_000_000_000
UTC_ZERO = datetime(2026, 1, 31, 10, 5, tzinfo=UTC)
ANN = Tile("s-ann", Person("u-ann", "ann"), False, None, False, False)
SHARED = Scene((ANN,), 1, "s-ann")


def track(source: TrackSource, name: str = "ann") -> RemoteTrack:
    codec = Codec.OPUS if source.is_audio else Codec.VP8
    return RemoteTrack(
        track_id=f"{source.value}_{name}", session_id=f"s-{name}", source=source, codec=codec
    )


@pytest.fixture
def recording(tmp_path: Path, settings) -> Recording:
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    return Recording(writer, Compositor(1280, 720), settings, zero_ns=ZERO_NS, zero_utc=UTC_ZERO)


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
    inbox = Inbox()
    for number in range(32_768 + 5):
        inbox.put(SceneChange(number, Scene()))
    assert inbox.dropped == 5
    oldest = inbox.get()
    assert isinstance(oldest, SceneChange)
    assert oldest.time_ns == 5


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
        ),
        inbox,
        interval_s=0.05,
        on_blocked=lambda track: None,
        on_figures=lambda figures: None,
    )

    def monotonic_ns() -> int:
        # After the stop packets come in that were said 450 ms before.
        if now == ZERO_NS + 1_050_000_000 and inbox.get() is None:
            for frame in audio_frames(0.3, zero_ns=ZERO_NS + 600_000_000):
                inbox.put(TrackFrame(track(TrackSource.VOICE), frame))
        return now

    monkeypatch.setattr("jobs.recorder.recording.time.sleep", sleep)
    monkeypatch.setattr("jobs.recorder.recording.time.monotonic_ns", monotonic_ns)
    now = ZERO_NS + 1_000_000_000
    loop.stop(now)
    loop.run()
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4")
    assert onsets(tmp_path / "done.mp4") == pytest.approx([0.6065], abs=0.012)
    assert read_mp4(tmp_path / "done.mp4").audio_duration_s == pytest.approx(1.0, abs=0.03)


def test_frames_shifted_by_a_fault_are_seen_as_shifted(recording, finished, audio_frames) -> None:
    """The judge of the tests above can fail."""
    for frame in audio_frames(0.2, zero_ns=ZERO_NS + 500_000_000):
        late = replace(frame, time_ns=frame.time_ns + 100_000_000)
        recording.take(TrackFrame(track(TrackSource.VOICE), late))
    assert onsets(finished(1.0)) == pytest.approx([0.6065], abs=0.012)
