"""Captions on a page against what was heard there."""

from __future__ import annotations

from testbed.browser_call.reading import heard, read

TEXTS = ["good morning everyone", "the server is closed now"]


def voice(*spoken_s: tuple[float, float], until_s: float = 20.0) -> list[tuple[float, float]]:
    """Levels each 40 ms."""
    times_s = [n * 0.04 for n in range(round(until_s / 0.04))]
    return [(t, 0.2 if any(a <= t <= b for a, b in spoken_s) else 0.001) for t in times_s]


def test_short_silence_parts_no_sentence_and_short_noise_is_none() -> None:
    found = heard(voice((1.0, 1.6), (2.0, 3.0), (5.0, 5.3), (8.0, 9.5)))
    assert [(round(a, 1), round(b, 1)) for a, b in found] == [(1.0, 3.0), (8.0, 9.5)]


def test_the_best_caption_in_time_counts() -> None:
    captions = [(1.5, "Jane: good"), (3.9, "Jane: good morning everyone"), (5.0, "Jane: the")]
    (sentence,) = read(voice((1.0, 2.0)), captions, TEXTS, from_s=0.0)
    assert (sentence.wanted, sentence.errors) == (TEXTS[0], 0)


def test_a_caption_that_comes_too_late_is_none() -> None:
    captions = [(5.2, "Jane: good morning everyone")]
    (sentence,) = read(voice((1.0, 2.0)), captions, TEXTS, from_s=0.0)
    assert sentence.got == ""
    assert sentence.errors > 0


def test_wrong_words_are_errors() -> None:
    captions = [(2.0, "Jane: the server was closed")]
    (sentence,) = read(voice((1.0, 2.0)), captions, TEXTS, from_s=0.0)
    assert (sentence.wanted, sentence.errors) == (TEXTS[1], 2)


def test_only_sentences_whose_captions_had_their_time_are_judged() -> None:
    levels = voice((1.0, 2.0), (5.0, 6.0), (18.0, 19.0))
    judged = read(levels, [], TEXTS, from_s=4.0)
    assert [round(sentence.start_s, 1) for sentence in judged] == [5.0]
