"""WebVTT and text exactly as calls-plugin.md 8.3 to 8.5 say."""

from __future__ import annotations

import pytest

from jobs.transcriber.document import cues_of
from jobs.transcriber.formats.cues import Cue, display_name
from jobs.transcriber.formats.markdown import render_markdown
from jobs.transcriber.formats.srt import render_srt
from jobs.transcriber.formats.text import TextOptions, render_text
from jobs.transcriber.formats.webvtt import render_webvtt

ADA, BOB = "Ada Lovelace", "Bob"


def test_webvtt_as_the_contract_shows_it() -> None:
    assert render_webvtt([Cue(1200, 3000, ADA, "Good morning")]) == (
        "WEBVTT\n\n00:00:01.200 --> 00:00:03.000\n<v Ada Lovelace>(Ada Lovelace) Good morning\n"
    )


def test_webvtt_is_sorted_over_all_speakers_and_escaped() -> None:
    cues = [
        Cue(3_600_000, 363_599_999, BOB, "1 < 2 & 3 > 2"),
        Cue(61_001, 61_002, ADA, '"don\'t"'),
    ]
    assert render_webvtt(cues) == (
        "WEBVTT\n\n"
        "00:01:01.001 --> 00:01:01.002\n"
        "<v Ada Lovelace>(Ada Lovelace) &#34;don&#39;t&#34;\n\n"
        "01:00:00.000 --> 100:59:59.999\n"
        "<v Bob>(Bob) 1 &lt; 2 &amp; 3 &gt; 2\n"
    )


def test_webvtt_without_speakers() -> None:
    assert render_webvtt([Cue(0, 1000, ADA, "a --> b")], omit_speaker=True) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na --&gt; b\n"
    )


def test_text_blocks() -> None:
    cues = [Cue(5200, 6000, BOB, "hello"), Cue(1200, 3000, ADA, "Good morning <all>")]
    assert render_text(cues) == (
        "00:00:01 -> 00:00:03\nAda Lovelace\nGood morning <all>\n"
        "\n"
        "00:00:05 -> 00:00:06\nBob\nhello\n"
    )


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (499, "00:00:00"),
        (500, "00:00:01"),
        (59_400, "00:00:59"),
        (59_600, "00:01:00"),  # the original says 00:00:60
        (3_599_700, "01:00:00"),
    ],
)
def test_text_times_are_rounded_and_never_60(ms: int, shown: str) -> None:
    assert render_text([Cue(ms, ms, ADA, "x")]).startswith(shown)


def _blocks(*cues: Cue, options: TextOptions | None = None) -> list[str]:
    return [block.split("\n")[2] for block in render_text(cues, options).split("\n\n")]


def test_neighbours_of_one_speaker_merge_while_silence_and_block_are_short() -> None:
    a = Cue(0, 4000, ADA, "a")
    b = Cue(5999, 9999, ADA, "b")  # 1999 ms of silence, block of 4000 ms
    c = Cue(10_000, 12_000, ADA, "c")  # block of 9999 ms so far
    d = Cue(12_001, 13_000, ADA, "d")  # block of 12000 ms: full
    assert _blocks(a, b, c, d) == ["a b c", "d"]


def test_two_seconds_of_silence_or_another_speaker_part_blocks() -> None:
    a = Cue(0, 1000, ADA, "a")
    assert _blocks(a, Cue(3000, 4000, ADA, "b")) == ["a", "b"]
    assert _blocks(a, Cue(1100, 1200, BOB, "x"), Cue(1300, 1400, ADA, "b")) == ["a", "x", "b"]


def test_the_limits_are_settings() -> None:
    options = TextOptions(silence_threshold_ms=100, max_segment_duration_ms=1000)
    a = Cue(0, 500, ADA, "a")
    assert _blocks(a, Cue(599, 999, ADA, "b"), Cue(1050, 1100, ADA, "c"), options=options) == [
        "a b c"
    ]
    assert _blocks(a, Cue(600, 999, ADA, "b"), options=options) == ["a", "b"]


@pytest.mark.parametrize(
    ("first", "last", "username", "shown"),
    [
        ("Ada", "Lovelace", "ada", "Ada Lovelace"),
        ("Ada", "", "ada", "Ada"),
        ("", "Lovelace", "ada", "Lovelace"),
        ("", "", "ada.l-1_x", "ada.l-1_x"),
        ("  ", " ", "ada", "ada"),
        ("Ada <b>", "O'Neill", "ada", "Ada b ONeill"),
        ("Zoë", "Müller-Łoś", "z", "Zoë Müller-Łoś"),
        ("हिन्दी", "नाम", "h", "हिन्दी नाम"),
        ("山田", "太郎", "y", "山田 太郎"),
        ("🙂", "", "smile", "smile"),
        ("", "", "", "Unknown speaker"),
    ],
)
def test_display_names(first: str, last: str, username: str, shown: str) -> None:
    assert display_name(first, last, username) == shown


def test_overlapping_speech_is_interleaved_by_start_and_both_times_are_kept() -> None:
    cues = [Cue(1000, 9000, ADA, "long"), Cue(4000, 5000, BOB, "no"), Cue(2000, 3000, BOB, "well")]
    assert render_webvtt(cues, omit_speaker=True) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:09.000\nlong\n\n"
        "00:00:02.000 --> 00:00:03.000\nwell\n\n00:00:04.000 --> 00:00:05.000\nno\n"
    )
    assert render_text(cues) == (
        "00:00:01 -> 00:00:09\nAda Lovelace\nlong\n\n00:00:02 -> 00:00:05\nBob\nwell no\n"
    )


@pytest.mark.parametrize("text", ["שלום עולם", "مرحبا", "こんにちは", "नमस्ते", "👋🏽 ok"])
def test_any_script_comes_through_as_it_is(text: str) -> None:
    cues = [Cue(0, 1000, "Zoë", text)]
    assert f"<v Zoë>(Zoë) {text}\n" in render_webvtt(cues)
    assert f"Zoë\n{text}\n" in render_text(cues)
    assert f"Zoë: {text}\n" in render_srt(cues)
    assert f"**Zoë** (00:00:00)\n\n{text}\n" in render_markdown(cues)


def test_subrip() -> None:
    cues = [Cue(3_723_004, 3_724_000, BOB, "a --> b <i>"), Cue(1200, 3000, ADA, "Good morning")]
    assert render_srt(cues) == (
        "1\n00:00:01,200 --> 00:00:03,000\nAda Lovelace: Good morning\n\n"
        "2\n01:02:03,004 --> 01:02:04,000\nBob: a -> b <i>\n"
    )


def test_markdown_of_what_looks_like_markdown() -> None:
    cues = [Cue(0, 1000, "ada_l", "1. *no* list"), Cue(9000, 9500, BOB, "- # <b>")]
    assert render_markdown(cues) == (
        "# Transcript\n\n**ada\\_l** (00:00:00)\n\n1\\. \\*no\\* list\n\n"
        "**Bob** (00:00:09)\n\n\\- \\# \\<b\\>\n"
    )


def test_a_text_of_several_lines_is_one_line_in_every_format() -> None:
    segment = {"start_ms": 5, "end_ms": 5, "speaker": ADA, "text": " one\n\ntwo\r\n"}
    assert cues_of({"segments": [segment]}) == [Cue(5, 6, ADA, "one two")]
