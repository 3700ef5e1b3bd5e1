"""The judges of chaos find what is lost: they are shown recordings and transcripts that lack something."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer
from jobs.recorder.settings import RecorderSettings
from testbed.bots.voice import BEEP_AMPLITUDE, BEEP_HZ, BEEP_S
from testbed.bots.world import User, World
from testbed.chaos.judging import (
    LOSS_S,
    judge_outcome,
    judge_posted,
    judge_recording,
    safe_ns,
)
from testbed.chaos.schedule import Kill
from testbed.chaos.transcripts import Undisturbed, judge_transcript
from testbed.chaos.victim import Story
from testbed.speech.clips import Word
from testbed.truth import Mark, Truth, Utterance

NS = 1_000_000_000
ZERO_NS = 100 * NS
POST = {"file_ids": ["f"]}
ID = "abcdefghijklmnopqrstuvwxy"
BEEPS = Truth(marks=tuple(Mark("beep", "alice", ZERO_NS + s * NS) for s in range(8)))


def killed(at_s: float, **more: object) -> Story:
    """A recorder that was killed at a recording time, salvaged and published."""
    story = Story("j", Kill(0, "call", 1.0, 3.0), hit="call", exit_code=-9, salvage_code=0)
    story.zero_ms, story.kill_ns = 1, ZERO_NS + round(at_s * NS)
    story.posts, story.figures = (POST,), {"zero_ns": float(ZERO_NS)}
    return replace(story, **more)


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """`recording(seconds, beeps_at)`"""

    def make(seconds: float, beeps_s: list[float]) -> Path:
        settings = RecorderSettings(
            site_url="http://h", call_id=ID + "c", post_id=ID + "p", job_id=ID + "r",
            auth_token=ID + "s", data_dir=tmp_path, width_px=1280, height_px=720,
            frame_rate=10, video_preset="ultrafast",
        )  # fmt: skip
        at_s = np.arange(round(seconds * 48_000)) / 48_000
        sound = np.zeros(len(at_s), np.float32)
        for beep_s in beeps_s:
            inside = (at_s >= beep_s) & (at_s < beep_s + BEEP_S)
            sound[inside] = BEEP_AMPLITUDE * np.sin(2 * np.pi * BEEP_HZ * at_s[inside])
        writer = Mp4Writer(tmp_path / "x.mp4", settings)
        for number in range(round(seconds * 2)):
            planes = np.full((1080, 1280), 100, np.uint8)
            writer.write_picture(planes, ticks=number * 45_000, duration=45_000)
        for start in range(0, len(sound), AUDIO_BLOCK):
            writer.write_sound(sound[start : start + AUDIO_BLOCK])
        writer.close()
        return tmp_path / "x.mp4"

    return make


def test_a_recording_that_has_all_of_it_is_right(recording: Callable[..., Path]) -> None:
    story = killed(7.2)
    judge_outcome(story)
    judge_recording(story, BEEPS, recording(6.5, [2, 3, 4, 5]))
    assert story.complaints == []
    assert story.figures["marks"] == 4


def test_a_missing_beep_is_found(recording: Callable[..., Path]) -> None:
    story = killed(7.2)
    judge_recording(story, BEEPS, recording(6.5, [2, 3, 5]))
    assert story.complaints == ["1 of 4 beeps are missing, the first at 4.00 s"]


def test_a_beep_in_the_wrong_place_is_missing(recording: Callable[..., Path]) -> None:
    story = killed(7.2)
    judge_recording(story, BEEPS, recording(6.5, [2, 3, 4.3, 5]))
    assert len(story.complaints) == 1


def test_a_missing_end_is_found(recording: Callable[..., Path]) -> None:
    story = killed(9.0)
    judge_recording(story, BEEPS, recording(6.5, [2, 3, 4, 5, 6]))
    assert "2.50 s are missing at the end" in story.complaints


def test_after_a_polite_end_nothing_may_be_missing(recording: Callable[..., Path]) -> None:
    wish = Kill(0, "call", 1.0, 3.0, signal.SIGTERM)
    story = killed(7.2, wish=wish, exit_code=0, salvage_code=None)
    assert safe_ns(story, loss_s=LOSS_S["recorder"]) == ZERO_NS + round(6.9 * NS)
    judge_recording(story, BEEPS, recording(6.5, [2, 3, 4, 5, 6]))
    assert story.complaints == ["0.70 s are missing at the end"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"posts": ()}, "nothing posted"),
        ({"posts": (POST, POST)}, "posted 2 times"),
        ({"left": ("recording.mp4",)}, "left recording.mp4"),
        ({"salvage_code": 1}, "salvage ended with code 1"),
        ({"hit": "", "exit_code": 1}, "ended with code 1"),
    ],
)
def test_a_bad_end_is_told(change: dict[str, object], text: str) -> None:
    story = killed(7.2, **change)
    judge_outcome(story)
    judge_posted(story)
    assert [text in complaint for complaint in story.complaints] == [True]


def test_a_job_killed_before_it_recorded_needs_no_post() -> None:
    story = killed(1.0, posts=())
    judge_outcome(story)
    judge_posted(story)
    assert story.complaints == []


WORDS = tuple(
    Word(text, n * 0.5, n * 0.5 + 0.4) for n, text in enumerate(["one", "two", "three", "four"])
)
WORLD = World("c", "alice", {"alice": User("alice", "u", "t", "alice", "Alice", "Adams")})
TALK = Truth(
    utterances=tuple(
        Utterance("alice", "clip", "one two three four", WORDS, ZERO_NS + s * NS) for s in (3, 6)
    )
)


def vtt(*sentences: tuple[int, str]) -> str:
    cues = [
        f"00:00:0{at_s}.000 --> 00:00:0{at_s + 2}.000\n<v Alice Adams>(Alice Adams) {text}\n"
        for at_s, text in sentences
    ]
    return "WEBVTT\n\n" + "\n".join(cues)


WHOLE = vtt((3, "one two three four"), (6, "one two three four"))
UNDISTURBED = Undisturbed(TALK, WORLD, WHOLE, zero_ns=ZERO_NS, end_ns=ZERO_NS + 20 * NS)


@pytest.mark.parametrize(
    ("killed_s", "text", "wrong"),
    [
        (9.9, WHOLE, 0),
        (9.9, vtt((3, "one two three four"), (6, "one too three four")), 1),
        (9.9, vtt((3, "one two three four")), 1),
        (9.9, "", 2),
        # A second before the kill: two of the four words were over.
        (8.0, vtt((3, "one two three four"), (6, "one two")), 0),
        (8.0, vtt((3, "one two three four"), (6, "one")), 1),
        (7.3, vtt((3, "one two three four")), 0),
        (9.9, vtt((0, "boo"), (3, "one two three four"), (6, "one two three four")), 1),
    ],
)
def test_words_that_were_over_in_time_must_be_the_same(
    killed_s: float, text: str, wrong: int
) -> None:
    story = killed(killed_s)
    judge_transcript(story, TALK, UNDISTURBED, text)
    assert len(story.complaints) == wrong


def test_a_sentence_from_after_the_undisturbed_end_is_held_against_the_same_one_before() -> None:
    early = Undisturbed(TALK, WORLD, WHOLE, zero_ns=ZERO_NS, end_ns=ZERO_NS + 5 * NS)
    late = killed(9.9)
    judge_transcript(late, TALK, early, vtt((3, "one two three four"), (6, "one two four")))
    assert late.figures["words"] == 8
    assert len(late.complaints) == 1
