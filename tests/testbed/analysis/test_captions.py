from __future__ import annotations

import pytest

from testbed.analysis.captions import (
    Caption,
    judge_caption,
    judge_captions,
    per_sentence,
    percentile,
)
from testbed.analysis.checks import check_captions
from testbed.analysis.evidence import CaptionEvidence
from testbed.analysis.speech import Spoken
from testbed.speech.clips import Word
from testbed.truth import Utterance

ALICE, BOB = "Alice Adams", "Bob Brown"


def _spoken(speaker: str, text: str, start_s: float) -> Spoken:
    words = tuple(Word(w, i * 0.5, i * 0.5 + 0.4) for i, w in enumerate(text.split()))
    utterance = Utterance(speaker.split()[0].lower(), "c", text, words, round(start_s * 1e9))
    return Spoken(speaker, utterance, 0)


FIRST = _spoken(ALICE, "start the recording now", 10.0)  # ends at 11.9
SECOND = _spoken(ALICE, "the server is open", 14.0)  # ends at 15.9
OTHER = _spoken(BOB, "hello alice", 11.0)  # ends at 11.9
ALL = [FIRST, SECOND, OTHER]


def _failed(captions: list[Caption], spoken: list[Spoken]) -> set[str]:
    results = judge_captions(captions, spoken)
    evidence = CaptionEvidence(tuple(results), tuple(per_sentence(results, spoken)))
    return {check.name for check in check_captions(evidence) if not check.ok}


def test_the_lag_is_counted_from_the_end_of_the_captions_last_word() -> None:
    result = judge_caption(Caption(11.5, ALICE, "start the"), ALL)
    assert result.spoken is FIRST
    assert result.lag_s == pytest.approx(11.5 - 10.9)


def test_a_caption_that_repeats_an_earlier_sentence_belongs_to_the_newest_words() -> None:
    result = judge_caption(Caption(15.2, ALICE, "the recording now the server"), ALL)
    assert result.spoken is SECOND
    assert result.lag_s == pytest.approx(15.2 - 14.9)


def test_a_late_caption_belongs_to_the_sentence_that_it_quotes() -> None:
    result = judge_caption(Caption(14.2, ALICE, "start the recording now"), ALL)
    assert result.spoken is FIRST
    assert result.lag_s == pytest.approx(2.3)


def test_a_caption_under_another_name_belongs_to_nothing() -> None:
    assert judge_caption(Caption(12.5, BOB, "start recording now"), ALL).spoken is None


def test_a_caption_cannot_quote_what_was_not_said_yet() -> None:
    assert judge_caption(Caption(12.5, ALICE, "server is open"), ALL).spoken is None


def test_captions_for_all_in_time_pass() -> None:
    captions = [
        Caption(12.5, ALICE, "start the recording now"),
        Caption(12.6, BOB, "hello alice"),
        Caption(16.5, ALICE, "the server is open"),
    ]
    assert _failed(captions, ALL) == set()


def test_a_sentence_without_caption_fails() -> None:
    captions = [Caption(12.5, ALICE, "start the recording now"), Caption(12.6, BOB, "hello alice")]
    assert _failed(captions, ALL) == {"a caption for every sentence"}


def test_a_caption_more_than_three_seconds_after_its_sentence_fails() -> None:
    captions = [Caption(15.0, ALICE, "start the recording now")]
    assert _failed(captions, [FIRST]) == {"captions in time"}


def test_swapped_speakers_leave_sentences_without_captions() -> None:
    captions = [
        Caption(12.5, BOB, "start the recording now"),
        Caption(12.6, ALICE, "hello alice"),
    ]
    assert "a caption for every sentence" in _failed(captions, [FIRST, OTHER])


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.95, 4), (1.0, 4), (0.0, 1)])
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(share: float, value: float) -> None:
    assert percentile([4, 1, 3, 2], share) == value


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([], 0.5) is None
