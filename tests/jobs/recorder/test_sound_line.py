"""The mix: no clicks where somebody mutes, nothing lost at mutes, and nobody who left is remembered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from callclient.receive.tracks import TrackSource
from jobs.recorder.sound_line import SoundLine

ZERO_NS = 4_000_000_000
STEP_OF_A_TONE = 0.3 * 2 * np.pi * 1000 / 48_000
"""Between two samples of the tests' tone at most."""


@dataclass
class Sink:
    blocks: list[np.ndarray] = field(default_factory=list)

    def write_sound(self, samples: np.ndarray) -> None:
        self.blocks.append(samples)

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate(self.blocks)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def line(sink: Sink) -> SoundLine:
    return SoundLine(sink, zero_ns=ZERO_NS)


def talk(line: SoundLine, frames, *, track: str = "t1", source=TrackSource.VOICE) -> None:
    """Frame by frame, as the recorder does: written up to a second before what comes."""
    for frame in frames:
        line.push(track, f"s-{track}", source, frame)
        line.advance(frame.time_ns - 1_000_000_000)


def test_a_mute_in_mid_word_makes_no_click(line, sink, audio_frames) -> None:
    frames = audio_frames(3, zero_ns=ZERO_NS, hz=1000.7)
    later = [replace(f, time_ns=f.time_ns + 2_000_000_000) for f in frames[50:75]]
    talk(line, frames[:50])
    talk(line, later)
    line.finish(ZERO_NS + 5_000_000_000)
    loudest_step = np.abs(np.diff(sink.samples)).max()
    assert loudest_step < 1.6 * STEP_OF_A_TONE
    assert np.abs(sink.samples[int(1.05 * 48_000) : int(2.95 * 48_000)]).max() == 0


def test_the_end_of_a_track_makes_no_click_though_nothing_comes_after_it(
    line, sink, audio_frames
) -> None:
    talk(line, audio_frames(1, zero_ns=ZERO_NS, hz=1000.7)[:-3])
    line.end_track("t1")
    line.finish(ZERO_NS + 2_000_000_000)
    assert np.abs(np.diff(sink.samples)).max() < 1.6 * STEP_OF_A_TONE


def test_everything_said_before_and_after_a_mute_is_there(line, sink, audio_frames) -> None:
    frames = audio_frames(2, zero_ns=ZERO_NS, level=0.09)
    talk(line, [*frames[:40], *(replace(f, time_ns=f.time_ns + 10**9) for f in frames[40:80])])
    line.finish(ZERO_NS + 3_000_000_000)
    loud = np.abs(sink.samples) > 0.02
    assert loud.sum() / 48_000 == pytest.approx(
        1.6 * 0.86, abs=0.1
    )  # a sine is below that for 14 %
    assert loud[int(0.76 * 48_000) : int(0.79 * 48_000)].any()
    assert loud[int(1.81 * 48_000) : int(1.84 * 48_000)].any()


def test_speakers_come_nearer_and_the_sound_of_a_screen_stays_as_it_is(
    line, sink, audio_frames
) -> None:
    def level(start_s: float) -> float:
        part = sink.samples[int(start_s * 48_000) : int((start_s + 0.5) * 48_000)]
        return float(np.sqrt(np.mean(np.square(part))))

    cases = (("quiet", 0.02, TrackSource.VOICE), ("loud", 0.6, TrackSource.VOICE))
    for number, (name, loudness, source) in enumerate(
        (*cases, ("film", 0.02, TrackSource.SCREEN_AUDIO))
    ):
        start_ns = ZERO_NS + number * 8_000_000_000
        talk(line, audio_frames(7, zero_ns=start_ns, level=loudness), track=name, source=source)
    line.finish(ZERO_NS + 24_000_000_000)
    before_db = 20 * np.log10(0.6 / 0.02)
    assert 20 * np.log10(level(14) / level(6)) < before_db - 8
    assert level(22) == pytest.approx(0.02 / np.sqrt(2), rel=0.1)


def test_who_left_is_forgotten(line, audio_frames) -> None:
    for number in range(5):
        track = f"t{number}"
        talk(line, audio_frames(0.3, zero_ns=ZERO_NS + number * 10**9), track=track)
        line.end_track(track)
    line.advance(ZERO_NS + 20_000_000_000)
    line.advance(ZERO_NS + 21_000_000_000)
    assert (line._tracks, line._speakers) == ({}, {})


def test_a_speaker_keeps_the_gain_while_their_screen_s_sound_comes_and_goes(
    line, audio_frames
) -> None:
    talk(line, audio_frames(3, zero_ns=ZERO_NS, level=0.02))
    gain_db = line._speakers["s-t1"].leveller.gain_db
    for frame in audio_frames(0.2, zero_ns=ZERO_NS + 3_000_000_000):
        line.push("film", "s-t1", TrackSource.SCREEN_AUDIO, frame)
    line.end_track("film")
    line.advance(ZERO_NS + 10_000_000_000)
    assert line._speakers["s-t1"].leveller.gain_db == gain_db > 1


def told(line: SoundLine, frames, *, until_s: float) -> list[tuple[float, bool, bool]]:
    """Changes as (s, speaking, sending), with a look every tenth of a second a second behind."""
    changes, waiting = [], list(frames)
    for tenth in range(round(until_s * 10) + 1):
        now_ns = ZERO_NS + tenth * 100_000_000
        while waiting and waiting[0].time_ns <= now_ns:
            changes.append(line.push("t1", "s-t1", TrackSource.VOICE, waiting.pop(0)))
        changes += line.advance(now_ns - 1_000_000_000)
    return [
        (round((c.time_ns - ZERO_NS) / 1e9, 1), c.speaking, c.sending)
        for c in changes
        if c is not None
    ]


def test_who_stops_sending_without_muting_is_told_two_seconds_later(line, audio_frames) -> None:
    """The server says nothing then: without that a ring would glow on for ever (trap 30)."""
    frames = audio_frames(1, zero_ns=ZERO_NS)
    frames += audio_frames(0.1, zero_ns=ZERO_NS + 5_000_000_000, level=0.0)
    changes = told(line, frames, until_s=9)
    assert [what for _, *what in changes] == [
        [False, True],
        [True, True],
        [False, True],
        [False, False],
        [False, True],
        [False, False],
    ]
    assert [at_s for at_s, *_ in changes] == pytest.approx([0, 0, 1.6, 3.1, 5, 7.2], abs=0.11)


def test_who_is_silent_but_sends_is_not_taken_for_gone(line, audio_frames) -> None:
    changes = told(line, audio_frames(8, zero_ns=ZERO_NS, level=0.0), until_s=8)
    assert changes == [(0.0, False, True)]
