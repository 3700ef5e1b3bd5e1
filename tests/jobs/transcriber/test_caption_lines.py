"""Lines are whole words, at most 120 characters, and readable alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.transcriber.caption_lines import Line, LineBuilder


def test_a_line_grows_until_it_is_full_then_a_new_one_begins() -> None:
    builder = LineBuilder(max_chars=12)
    assert [line.text for line in builder.add(["start", "the"])] == ["start the"]
    changed = builder.add(["recording", "now"])
    assert [(line.number, line.text) for line in changed] == [(1, "recording"), (2, "now")]


def test_a_full_line_changed_by_the_same_words_is_told_too() -> None:
    builder = LineBuilder(max_chars=12)
    builder.add(["start"])
    changed = builder.add(["the", "recording"])
    assert [(line.number, line.text) for line in changed] == [(0, "start the"), (1, "recording")]


def test_a_long_line_ends_with_its_sentence() -> None:
    builder = LineBuilder()
    builder.add(["word"] * 13 + ["end."])
    assert [line.text for line in builder.add(["Next"])] == ["Next"]


def test_a_short_sentence_shares_its_line() -> None:
    builder = LineBuilder()
    builder.add(["Yes."])
    assert [line.text for line in builder.add(["Next"])] == ["Yes. Next"]


def test_a_new_utterance_begins_a_new_line() -> None:
    builder = LineBuilder()
    builder.add(["one"])
    builder.end_line()
    builder.end_line()
    assert [(line.number, line.text) for line in builder.add(["two"])] == [(1, "two")]


@given(st.lists(st.lists(st.text("abc.", min_size=1, max_size=300), max_size=30), max_size=10))
def test_no_word_is_lost_and_no_line_is_too_long(batches: list[list[str]]) -> None:
    builder = LineBuilder()
    latest: dict[int, str] = {}
    for batch in batches:
        for line in builder.add(batch):
            assert len(line.text) <= 120
            assert line.text.startswith(latest.get(line.number, ""))
            latest[line.number] = line.text
    said = "".join(latest[number].replace(" ", "") for number in sorted(latest))
    assert said == "".join(word for batch in batches for word in batch)


def test_words_to_come_are_shown_behind_the_open_line_and_not_taken_over() -> None:
    lines = LineBuilder(max_chars=20)
    assert lines.with_more([]) is None
    assert lines.with_more(["so"]) == Line(0, "so")
    lines.add(["the", "plan"])
    assert lines.with_more(["is", "confidential", "now"]) == Line(0, "the plan is")
    assert lines.with_more([]) == Line(0, "the plan")
    assert lines.add(["was"]) == [Line(0, "the plan was")]
