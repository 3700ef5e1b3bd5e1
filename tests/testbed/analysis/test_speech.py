from __future__ import annotations

import pytest

from testbed.analysis.call import Call
from testbed.analysis.checks import check_transcript
from testbed.analysis.evidence import TranscriptEvidence, examine_transcript
from testbed.analysis.speech import (
    Cue,
    Spoken,
    TranscriptError,
    align,
    judge_transcript,
    parse_webvtt,
)
from testbed.analysis.synthetic import swap_speakers, transcript_of
from testbed.speech.clips import Word
from testbed.truth import Utterance

ALICE, BOB = "Alice Adams", "Bob Brown"


def _spoken(speaker: str, text: str, start_s: float) -> Spoken:
    """One word each half second."""
    words = tuple(Word(w, i * 0.5, i * 0.5 + 0.4) for i, w in enumerate(text.split()))
    bot = speaker.split()[0].lower()
    return Spoken(speaker, Utterance(bot, "clip", text, words, round(start_s * 1e9)), 0)


def _cue(speaker: str, text: str, start_s: float) -> Cue:
    return Cue(start_s, start_s + 2, speaker, text)


def _failed(evidence: TranscriptEvidence) -> set[str]:
    return {check.name for check in check_transcript(evidence) if not check.ok}


def _evidence(cues: list[Cue], spoken: list[Spoken]) -> TranscriptEvidence:
    words = sum(len(cue.text.split()) for cue in cues)
    return TranscriptEvidence(judge_transcript(cues, spoken), words, words)


def test_a_webvtt_file_is_read_with_speaker_and_unescaped_text() -> None:
    text = (
        "WEBVTT\n\n00:00:01.200 --> 00:00:03.000\n<v Ada Love>(Ada Love) Good &amp; morning\n\n"
        "00:01:00.000 --> 00:01:01.500\n<v Bob>(Bob) yes\n"
    )
    assert parse_webvtt(text) == [
        Cue(1.2, 3.0, "Ada Love", "Good & morning"),
        Cue(60.0, 61.5, "Bob", "yes"),
    ]


def test_a_cue_without_speaker_has_an_empty_one() -> None:
    assert parse_webvtt("WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nyes\n")[0].speaker == ""


@pytest.mark.parametrize(
    ("text", "where"), [("", "line 1"), ("VTT\n", "line 1"), ("WEBVTT\n\nhello\n", "cue 1")]
)
def test_what_is_no_webvtt_is_refused_with_the_place(text: str, where: str) -> None:
    with pytest.raises(TranscriptError, match=where):
        parse_webvtt(text)


def test_alignment_takes_the_fewest_steps() -> None:
    steps = align(["a", "b", "c", "d"], ["a", "x", "c", "c", "d"])
    assert [step.operation for step in steps].count("same") == 3
    assert sum(step.operation != "same" for step in steps) == 2


def test_a_faithful_transcript_has_no_error(call: Call) -> None:
    vtt = transcript_of(call)
    text = "\n\n".join(cue.text for cue in parse_webvtt(vtt))
    assert _failed(examine_transcript(vtt, text, call)) == set()


def test_swapped_speakers_fail_words_and_speakers(call: Call) -> None:
    swapped = transcript_of(swap_speakers(call, "alice", "bob"))
    failed = _failed(examine_transcript(swapped, "", call))
    assert {"words of the transcript", "speakers of the transcript"} <= failed


def test_speakers_swapped_only_while_both_talk_are_noticed() -> None:
    spoken = [_spoken(ALICE, "start the recording", 1.0), _spoken(BOB, "hello the server", 1.2)]
    cues = [_cue(BOB, "start the recording", 1.0), _cue(ALICE, "hello the server", 1.2)]
    assert "speakers of the transcript" in _failed(_evidence(cues, spoken))


def test_word_errors_are_counted_over_all_speakers() -> None:
    spoken = [_spoken(ALICE, "start the recording now", 1.0), _spoken(BOB, "hello", 5.0)]
    cues = [_cue(ALICE, "start recording now please", 1.0), _cue(BOB, "Hello!", 5.0)]
    result = judge_transcript(cues, spoken)
    assert (result.errors, result.reference_words) == (2, 5)
    assert [sentence.errors for sentence in result.sentences] == [2, 0]


def test_cue_starts_are_measured_at_the_first_recognised_word() -> None:
    spoken = [_spoken(ALICE, "one two three four", 10.0), _spoken(ALICE, "five six", 15.0)]
    cues = [
        _cue(ALICE, "one two", 10.2),
        _cue(ALICE, "three four", 11.1),
        _cue(ALICE, "five six", 14.9),
    ]
    errors_s = judge_transcript(cues, spoken).start_errors_s
    assert errors_s == pytest.approx([0.2, 0.1, -0.1])


def test_late_cues_fail_though_every_word_is_right() -> None:
    spoken = [_spoken(ALICE, "one two", 10.0), _spoken(BOB, "three four", 15.0)]
    cues = [_cue(ALICE, "one two", 10.4), _cue(BOB, "three four", 15.4)]
    assert _failed(_evidence(cues, spoken)) == {"cue starts"}


def test_one_cue_that_is_far_off_fails_though_most_are_right() -> None:
    spoken = [_spoken(ALICE, f"word{i}", 10.0 * i) for i in range(30)]
    cues = [_cue(ALICE, f"word{i}", 10.0 * i + (0.7 if i == 7 else 0.05)) for i in range(30)]
    assert _failed(_evidence(cues, spoken)) == {"cue starts"}


def test_words_put_at_another_time_are_not_that_persons_words() -> None:
    spoken = [_spoken(ALICE, "one two", 10.0)]
    assert judge_transcript([_cue(ALICE, "one two", 30.0)], spoken).wrong_speakers


def test_an_empty_transcript_fails() -> None:
    failed = _failed(_evidence([], [_spoken(ALICE, "one two", 10.0)]))
    assert {"words of the transcript", "speakers of the transcript", "cue starts"} <= failed


def test_a_lost_word_in_the_text_file_is_noticed(call: Call) -> None:
    vtt = transcript_of(call)
    lines = [cue.text for cue in parse_webvtt(vtt)]
    lines[0] = lines[0].rsplit(" ", 1)[0]
    assert _failed(examine_transcript(vtt, "\n\n".join(lines), call)) == {"text file"}


def test_times_and_names_of_the_text_file_are_no_words(call: Call) -> None:
    vtt = transcript_of(call)
    blocks = [f"00:00:01 -> 00:00:03\n{cue.speaker}\n{cue.text}" for cue in parse_webvtt(vtt)]
    assert _failed(examine_transcript(vtt, "\n\n".join(blocks), call)) == set()
