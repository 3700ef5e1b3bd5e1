"""What engines are told of a call: short, clean, and in nobody's log; and how words find their times."""

from __future__ import annotations

import pytest

from jobs.transcriber.engines.base import Word
from jobs.transcriber.engines.hints import CallHints, channel_name_of
from jobs.transcriber.engines.languages import NAMES, code_of, locale_of
from jobs.transcriber.engines.word_times import timed_text


def test_channel_participants_and_vocabulary_are_told() -> None:
    hints = CallHints(vocabulary=["Kubernetes", "", "SFU"])
    assert hints.now.prompt == ""
    hints.channel("Town Square")
    for name in ("Ada Lovelace", "Grace Hopper", "Ada Lovelace", ""):
        hints.participant(name)
    assert hints.now.prompt == "Town Square, Ada Lovelace, Grace Hopper."
    assert hints.now.hotwords == "Kubernetes, SFU"
    assert hints.now.text == "Kubernetes, SFU Town Square, Ada Lovelace, Grace Hopper."


def test_a_name_is_one_short_line_without_the_models_marks() -> None:
    hints = CallHints()
    hints.participant("Ada\n<|endoftext|>\x00 " + "x" * 100)
    assert len(hints.now.prompt) <= 51
    assert not set("\n<>|\x00") & set(hints.now.prompt)


def test_hundreds_of_participants_do_not_fill_the_prompt() -> None:
    hints = CallHints()
    for number in range(300):
        hints.participant(f"P{number}")
    names = hints.now.prompt.rstrip(".").split(", ")
    assert (len(names), names[-1]) == (40, "P299")


def test_nothing_of_it_is_shown() -> None:
    hints = CallHints(vocabulary=["Projekt Adler"], channel_name="secret plans")
    for shown in (repr(hints), repr(hints.now), str(hints.now)):
        assert "Adler" not in shown
        assert "secret" not in shown


@pytest.mark.parametrize(
    ("base_name", "channel"),
    [
        ("Call_Town_Square_2026-01-31_10-05-09", "Town Square"),
        ("Call_ada-grace_2026-01-31_10-05-09", "ada-grace"),
        (f"Call_{'a1' * 13}_2026-01-31_10-05-09", ""),
        ("a" * 26, ""),
        ("", ""),
    ],
)
def test_the_channels_name_is_in_that_of_the_files(base_name: str, channel: str) -> None:
    assert channel_name_of(base_name) == channel


@pytest.mark.parametrize(
    ("text", "code", "locale"),
    [
        ("de", "de", "de-DE"),
        ("German", "de", "de-DE"),
        ("en", "en", "en-US"),
        ("haitian creole", "ht", "ht-HT"),
        ("Chinese", "zh", "zh-CN"),
    ],
)
def test_languages_by_any_name(text: str, code: str, locale: str) -> None:
    assert code_of(text) == code
    assert locale_of(code) == locale
    assert locale_of("de-AT") == "de-AT"
    assert (code_of("de-AT"), code_of("pt_BR"), code_of("klingon"), code_of("")) == (
        "de", "pt", "", "",
    )  # fmt: skip


def test_the_codes_are_those_of_the_models() -> None:
    from faster_whisper.tokenizer import _LANGUAGE_CODES

    assert set(NAMES) == set(_LANGUAGE_CODES)


def _words(*entries: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start_s, end_s, 0.8) for text, start_s, end_s in entries]


def test_written_words_take_the_times_of_spoken_ones() -> None:
    timed = _words(("at", 1.0, 1.2), ("five", 1.2, 1.5), ("pm", 1.5, 1.9), ("today", 2.0, 2.4))
    words = timed_text("At 5 p.m. today?", timed, start_s=0.5, end_s=3.0)
    assert [(word.text, word.start_s, word.end_s) for word in words] == [
        ("At", 1.0, 1.2), ("5", 1.2, 1.5), ("p.m.", 1.5, 1.9), ("today?", 2.0, 2.4),
    ]  # fmt: skip


@pytest.mark.parametrize("timed", [[], _words(("other", 1, 2)), _words(("c", 9.0, 4.0))])
def test_times_always_go_forward_and_no_word_is_lost(timed: list[Word]) -> None:
    words = timed_text("a b c d", timed, start_s=1.0, end_s=3.0)
    assert [word.text for word in words] == ["a", "b", "c", "d"]
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert timed_text("", timed, start_s=0, end_s=1) == ()
