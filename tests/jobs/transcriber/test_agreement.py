"""Committed words never change, and every word is said once."""

from __future__ import annotations

import pytest

from jobs.transcriber.agreement import LocalAgreement, TimedWord, key

WORD_NS = 300_000_000


def words(text: str, *, first: int = 0) -> list[TimedWord]:
    """Words of 0.3 s each, the first one at `first` × 0.3 s."""
    return [
        TimedWord(word, (first + i) * WORD_NS, (first + i + 1) * WORD_NS, 0.9)
        for i, word in enumerate(text.split())
    ]


def texts(timed: list[TimedWord]) -> str:
    return " ".join(word.text for word in timed)


FAR_NS = 10_000_000_000


def test_a_word_needs_two_hypotheses_in_a_row() -> None:
    agreement = LocalAgreement()
    assert agreement.update(words("start the"), audio_end_ns=FAR_NS) == []
    assert (
        texts(agreement.update(words("start the recordings"), audio_end_ns=FAR_NS)) == "start the"
    )
    assert agreement.update(words("start the recording"), audio_end_ns=FAR_NS) == []
    assert (
        texts(agreement.update(words("start the recording now"), audio_end_ns=FAR_NS))
        == "recording"
    )
    assert texts(agreement.finish(words("start the recording now please"))) == "now please"
    assert texts(agreement.committed) == "start the recording now please"


def test_a_word_at_the_very_end_of_the_audio_waits() -> None:
    agreement = LocalAgreement()
    heard = words("good morning")
    agreement.update(heard, audio_end_ns=heard[-1].end_ns + 50_000_000)
    assert texts(agreement.update(heard, audio_end_ns=heard[-1].end_ns + 50_000_000)) == "good"
    assert texts(agreement.update(heard, audio_end_ns=heard[-1].end_ns + 500_000_000)) == "morning"


@pytest.mark.parametrize(
    ("later", "new"),
    [
        ("the budged is on the agenda", "on the agenda"),  # a committed word is heard otherwise
        ("the is on the agenda", "on the agenda"),  # one is missing
        ("and the budget is on the agenda", "on the agenda"),  # one is new
        ("THE, budget is. on the agenda", "on the agenda"),  # spelling
        ("the budget is", ""),
        ("", ""),
    ],
)
def test_committed_words_stay_when_the_model_changes_its_mind(later: str, new: str) -> None:
    agreement = LocalAgreement()
    agreement.update(words("the budget is"), audio_end_ns=FAR_NS)
    agreement.update(words("the budget is"), audio_end_ns=FAR_NS)
    assert texts(agreement.committed) == "the budget is"
    assert texts(agreement.finish(words(later))) == new
    assert texts(agreement.committed[:3]) == "the budget is"


def test_after_a_cut_the_words_at_the_seam_are_not_repeated() -> None:
    agreement = LocalAgreement()
    for _ in range(2):
        agreement.update(words("send the notes today"), audio_end_ns=FAR_NS)
    agreement.trim()
    assert texts(agreement.finish(words("notes today please check", first=2))) == "please check"


def test_a_word_said_twice_after_a_cut_is_kept_when_time_says_so() -> None:
    agreement = LocalAgreement()
    for _ in range(2):
        agreement.update(words("yes yes"), audio_end_ns=FAR_NS)
    agreement.trim()
    assert texts(agreement.finish(words("yes", first=4))) == "yes"


def test_sure_words_far_from_the_end_can_be_committed_early() -> None:
    agreement = LocalAgreement()
    agreement.update(words("we need one more"), audio_end_ns=FAR_NS)
    early = agreement.commit_before(2 * WORD_NS, min_probability=0.5)
    assert texts(early) == "we need"
    assert agreement.commit_before(FAR_NS, min_probability=0.95) == []


@pytest.mark.parametrize(
    ("one", "other"), [("Don't", "dont"), ("naïve.", "NAÏVE"), ("हिंदी,", "हिंदी"), ("…", "…")]
)
def test_spellings_are_compared_by_letters(one: str, other: str) -> None:
    assert key(one) == key(other)
    assert key(one) != key("x")


def test_likely_words_are_the_sure_ones_in_front_and_stay_uncommitted() -> None:
    agreement = LocalAgreement()
    heard = words("we need one more")
    heard[2] = TimedWord("one", heard[2].start_ns, heard[2].end_ns, 0.2)
    agreement.update(heard, audio_end_ns=FAR_NS)
    assert texts(agreement.likely(audio_end_ns=FAR_NS, min_probability=0.5)) == "we need"
    assert texts(agreement.likely(audio_end_ns=heard[1].end_ns, min_probability=0.5)) == "we"
    assert agreement.committed == []
