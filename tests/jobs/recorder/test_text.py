"""Lines of text: in any script, in the right order, never wider than their room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.recorder.drawing import bidi, fonts, text
from jobs.recorder.drawing.text import Style

STYLE = Style(14)
NAMES = (
    "Ada Lovelace",
    "王小明",
    "山田 太郎",
    "김민수",
    "محمد عبد الله",
    "דוד כהן",
    "अमित शर्मा",
    "ธนพล ศรีสุข",
    "தமிழ் செல்வன்",
    "Жанна Σοφία",
    "გიორგი",
    "አበበ",
)


def ink(line: str, style: Style = STYLE) -> np.ndarray:
    image = Image.new("RGB", (300, 40))
    text.draw(image, (20, 20), line, style, (255, 255, 255))
    return np.asarray(image).max(axis=2)


@pytest.mark.parametrize("name", NAMES)
def test_every_script_has_a_font(name: str) -> None:
    for cluster in text.clusters(name):
        file = fonts.file_for(cluster)
        assert ord(cluster[0]) in fonts.coverage(file or fonts.SEMIBOLD), cluster


@pytest.mark.parametrize("name", NAMES)
def test_what_is_drawn_is_as_wide_as_what_is_measured(name: str) -> None:
    columns = np.flatnonzero(ink(name).max(axis=0) > 60)
    assert abs(columns[-1] + 1 - 20 - text.width(name, STYLE)) < 4
    assert columns[0] >= 18


@pytest.mark.usefixtures("text_shaping")
def test_arabic_letters_are_joined() -> None:
    apart = "\u200c".join("محمد")
    assert text.width("محمد", STYLE) != text.width(apart, STYLE)


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("abc", "abc"),
        ("אבג", "אבג"),
        ("Ann אבג", "Ann |אבג"),
        ("אבג Ann", "Ann|אבג "),  # the first letter decides the direction of the line
        ("Ann אבג 12 Ben", "Ann |12|אבג | Ben"),
        ("אבג 12", "12|אבג "),
        ("Ann אבג (דה) Ben", "Ann |אבג (דה)| Ben"),
        ("Ann (אבג) Ben", "Ann (|אבג|) Ben"),
        ("אבג (Ann)", ")|Ann|אבג ("),
        ("אבג 1:30", "1:30|אבג "),
    ],
)
def test_parts_stand_in_visual_order(line: str, seen: str) -> None:
    parts = text.clusters(line)
    levels = bidi.levels(parts)
    runs: list[str] = []
    run_levels: list[int] = []
    for part, level in zip(parts, levels, strict=True):
        if run_levels and run_levels[-1] == level:
            runs[-1] += part
        else:
            runs.append(part)
            run_levels.append(level)
    assert "|".join(bidi.visual_order(runs, run_levels)) == seen


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("a\u202eb", ["a", "b"]),  # nobody turns the rest of a line around
        ("a\n\t b", ["a", " ", "b"]),
        ("  a \u00a0 b", ["a", " ", "b"]),
        ("e\u0301x", ["é", "x"]),
        ("𝓕𝓪", ["F", "a"]),
        ("", []),
    ],
)
def test_clusters_are_what_is_read_as_one_character(raw: str, seen: list[str]) -> None:
    assert list(text.clusters(raw)) == seen


@pytest.mark.usefixtures("text_shaping", "emoji_font")
@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("👩\u200d🚀!", ["👩\u200d🚀", "!"]),
        ("👍🏽🇩🇪🇫🇷", ["👍🏽", "🇩🇪", "🇫🇷"]),
    ],
)
def test_an_emoji_of_several_parts_is_one_character(raw: str, seen: list[str]) -> None:
    assert list(text.clusters(raw)) == seen


def test_towers_of_marks_are_cut() -> None:
    assert len(text.clusters("ก" + "\u0e48" * 40)[0]) <= 5


@given(st.text(max_size=40), st.integers(0, 200), st.sampled_from((8, 12, 14, 28)))
@settings(max_examples=150, deadline=None)
def test_nothing_is_wider_than_its_room(line: str, room: int, size: int) -> None:
    style = Style(size)
    shortest = text.width(text.ELLIPSIS, style)
    assert text.width(text.fit(line, style, room), style) <= max(room, shortest)
    lines = text.wrap(line, style, room, lines=2)
    assert len(lines) <= 2
    for part in lines:
        widest = max((text.width(c, style) for c in text.clusters(part)), default=0)
        assert text.width(part, style) <= max(room, shortest, widest)


def test_what_fits_is_not_shortened() -> None:
    assert text.fit("Ann Ash", STYLE, text.width("Ann Ash", STYLE)) == "Ann Ash"
    assert text.fit("Ann Ash", STYLE, text.width("Ann Ash", STYLE) - 1).endswith("…")


def test_lines_are_broken_between_words_and_the_last_is_shortened() -> None:
    room = text.width("Ann Beatrice", STYLE) + 4
    assert text.wrap("Ann Beatrice Ash", STYLE, room, lines=2) == ["Ann Beatrice", "Ash"]
    assert text.wrap("Ann Beatrice", STYLE, room, lines=2) == ["Ann Beatrice"]
    lines = text.wrap("Wolfeschlegelsteinhausenbergerdorff " * 3, STYLE, 80, lines=2)
    assert len(lines) == 2
    assert lines[1].endswith("…")


def test_emoji_are_coloured(emoji_font: None) -> None:
    image = Image.new("RGB", (60, 40))
    text.draw(image, (5, 20), "🎉", STYLE, (255, 255, 255))
    pixels = np.asarray(image).astype(int)
    assert (pixels.max(axis=2) - pixels.min(axis=2)).max() > 60


def test_without_the_colour_font_emoji_have_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    text.emoji_image.cache_clear()
    fonts.is_emoji.cache_clear()
    monkeypatch.setattr(fonts, "emoji_file", lambda: None)
    assert text.emoji_image("🎉", 18) is None
    assert "fonts-noto-color-emoji" in {part.package for part in fonts.missing_parts()}
    monkeypatch.undo()
    text.emoji_image.cache_clear()
    fonts.is_emoji.cache_clear()


def test_a_file_that_is_no_font_has_no_characters(tmp_path) -> None:
    for data in (b"", b"no font", b"\0\1\0\0" + b"\0\1" + bytes(6) + b"cmap" + b"\xff" * 12):
        path = tmp_path / "broken.ttf"
        path.write_bytes(data)
        fonts.coverage.cache_clear()
        assert fonts.coverage(path) == frozenset()
    fonts.coverage.cache_clear()
