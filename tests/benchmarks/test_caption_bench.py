"""The captions' benchmark judges rightly: lags, words lost, words taken back; its talk is what it says."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks.captions.burning import base_cost_s, burn
from benchmarks.captions.judging import Caption, erased_words, judge
from benchmarks.captions.talk import SPEAKERS, Phase, make_talk
from testbed.scenario import Say
from testbed.speech.clips import CLIPS_DIRECTORY, Word, load_clips
from testbed.truth import Utterance


@pytest.mark.parametrize(
    ("before", "after", "erased"),
    [
        ("", "the plan", 0),
        ("the plan", "the plan is", 0),
        ("the plan is", "the plan was done", 1),  # another word
        ("the plan is", "the plan", 1),  # taken back
        ("so the plan is", "plan is done", 0),  # a window moved on
        ("the plan is done", "good morning everyone", 0),  # a new line
        ("the plan is done", "the server", 0),  # a new line that begins alike
    ],
)
def test_words_taken_back_are_counted_and_new_lines_are_not(
    before: str, after: str, erased: int
) -> None:
    assert erased_words(before.split(), after.split()) == erased


def test_lags_are_from_the_end_of_the_newest_word_and_unseen_words_are_lost() -> None:
    words = tuple(
        Word(w, n * 0.5, n * 0.5 + 0.4) for n, w in enumerate(["one", "two", "three", "four"])
    )
    said = {"a": [Utterance("a", "clip", "one two three four", words, 10 * 10**9)]}
    captions = [Caption(1.4, "a", "one two"), Caption(2.4, "a", "one two four")]
    (result,) = judge(captions, said, [Phase("all", 0, 3)], zero_ns=10 * 10**9)
    assert (result.words, result.lost, result.turns) == (4, 1, 1)
    assert result.partial_p50_s == pytest.approx(1.4 - 0.9)
    assert result.final_p95_s == pytest.approx(2.4 - 1.9)
    assert result.flicker == 0


def test_so_many_talk_as_each_phase_says() -> None:
    clips = load_clips(CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))["alice"]
    talk = make_talk(dict.fromkeys(SPEAKERS, clips), seconds=20)
    spans = [
        (event.at_s, event.at_s + clips[event.clip % len(clips)].duration_s)
        for own in talk.events.values()
        for event in own
        if isinstance(event, Say)
    ]
    for phase, wanted in zip(talk.phases, (2, 4, 8, 2), strict=True):
        times_s = np.arange(phase.start_s, phase.end_s, 0.05)
        at_once = [sum(begin <= at_s < end for begin, end in spans) for at_s in times_s]
        assert max(at_once) == wanted or (phase is talk.phases[-1] and max(at_once) == 1)
        assert np.median(at_once) >= wanted / 2
    for own in talk.events.values():
        assert [event.at_s for event in own] == sorted(event.at_s for event in own)


def test_cost_is_burnt_as_cpu_and_grows_with_context_and_words() -> None:
    assert base_cost_s(context_s=30, words=8) > 4 * base_cost_s(context_s=10, words=8)
    assert base_cost_s(context_s=10, words=20) > base_cost_s(context_s=10, words=2)
    begun_s = time.thread_time()
    burn(0.02)
    assert time.thread_time() - begun_s >= 0.02
