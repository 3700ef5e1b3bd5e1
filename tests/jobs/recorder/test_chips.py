"""Reactions, raised hands, notices and the pill say what they must, inside the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.recorder import layout
from jobs.recorder.drawing import chips
from jobs.recorder.drawing.chips import Icon, Words
from jobs.recorder.happenings import Emoji, Notice, Reaction
from jobs.recorder.scene import Person, Scene, Tile

LONG = "Wolfeschlegelsteinhausenbergerdorff " * 4


def raised(name: str, at_ms: int) -> Tile:
    person = Person(name, f"{name} Long", short_name=f"{name} L.")
    return Tile(f"s-{name}", person, True, None, False, at_ms)


def said(words: tuple[Words, ...]) -> str:
    return " ".join(part.text for part in words).replace(" ,", ",")


def test_raised_hands_are_told_in_one_line_the_first_two_by_name() -> None:
    tiles = [raised("Cid", 3), raised("Ann", 1), raised("Ben", 2), raised("Dan", 0)]
    assert chips.raised_hands([tiles[3]]) == ()
    assert said(chips.raised_hands([tiles[1], tiles[3]])) == "Ann L. raised a hand"
    assert said(chips.raised_hands(tiles[1:])) == "Ann L. and Ben L. raised a hand"
    assert said(chips.raised_hands(tiles)) == "Ann L., Ben L. and others raised a hand"


def test_notices_are_lowest_then_hands_then_the_newest_reaction(emoji_font: None) -> None:
    scene = Scene(
        (raised("Ann", 1),),
        1,
        reactions=(
            Reaction("s1", Emoji("tada", "1f389"), 1, "old"),
            Reaction("s2", Emoji("heart", "2764-fe0f"), 2, "new"),
        ),
        notices=(Notice("s1", "is now the host", 1, "Ben"),),
    )
    column = chips.column_chips(scene)
    assert [said(chip.words) for chip in column] == [
        "Ben is now the host",
        "Ann L. raised a hand",
        "new",
        "old",
    ]
    assert [chip.icon for chip in column[:2]] == [None, Icon.HAND]
    placed = list(chips.place_column(column, layout.column(1280, 720), 1))
    assert [chip.box.top for chip in placed] == sorted((c.box.top for c in placed), reverse=True)
    assert placed[0].box.bottom == 720 - 48


def test_an_emoji_that_only_the_server_has_is_named() -> None:
    (chip,) = chips.column_chips(Scene(reactions=(Reaction("s", Emoji("shipit"), 1, "Ann"),)))
    assert said(chip.words) == "Ann :shipit:"


@given(
    st.lists(st.text(min_size=1, max_size=60), max_size=50),
    st.sampled_from([(1280, 720), (1920, 1080), (3840, 2160), (1280, 2160), (3000, 720)]),
)
@settings(max_examples=60, deadline=None)
def test_chips_are_inside_the_column_and_apart(names: list[str], size: tuple[int, int]) -> None:
    column, unit = layout.column(*size), layout.unit(*size)
    reactions = tuple(Reaction("s", Emoji("x"), 1, name) for name in names)
    notices = tuple(Notice("s", "was removed from the call", 1, name) for name in names[:3])
    scene = Scene(reactions=reactions, notices=notices)
    placed = list(chips.place_column(chips.column_chips(scene), column, unit))
    below = column.bottom
    for chip in placed:
        assert chip.box.bottom <= below
        assert chip.box.top >= column.top
        assert chip.box.right <= column.right
        assert chip.box.width % 2 == chip.box.height % 2 == 0
        below = chip.box.top
    for chip in placed[:3]:
        image, mask = chips.draw_chip(chip)
        assert image.size == mask.size == (chip.box.width, chip.box.height)


def test_names_give_way_and_what_is_said_of_them_does_not() -> None:
    scene = Scene(notices=(Notice("s", "was removed from the call", 1, LONG),))
    column = layout.column(1280, 720)
    (placed,) = chips.place_column(chips.column_chips(scene), column, 1)
    (short,) = chips.place_column(
        chips.column_chips(Scene(notices=(Notice("s", "was removed from the call", 1, "x"),))),
        column,
        1,
    )
    assert placed.box.width == column.width
    tail = 180  # px of "removed from the call" and the padding
    long_ink, short_ink = (
        np.asarray(chips.draw_chip(chip)[0].convert("L"))[:, -tail:-10] < 128
        for chip in (placed, short)
    )
    assert abs(int(long_ink.sum()) - int(short_ink.sum())) < 0.1 * short_ink.sum()


@pytest.mark.parametrize("sharer", ["Ann", LONG])
def test_the_pill_is_centred_and_not_too_wide(sharer: str) -> None:
    area = layout.main_area(1280, 720)
    box = chips.pill(sharer, area, 1).box
    assert abs(box.left + box.right - 1280) <= 2
    assert box.width <= 640
    assert box.bottom == area.bottom - 24


def test_the_pill_s_ground_is_half_transparent_and_its_words_are_not() -> None:
    image, mask = chips.draw_chip(chips.pill("Ann", layout.main_area(1280, 720), 1))
    brightness, opacity = np.asarray(image.convert("L")), np.asarray(mask)
    assert opacity[brightness > 210].min() > 240
    ground = opacity[4:-4, 10:-10][brightness[4:-4, 10:-10] < 12]
    assert set(np.unique(ground)) == {round(0.72 * 255)}


def test_the_column_fades_towards_its_top() -> None:
    reactions = tuple(Reaction("s", Emoji("x"), 1, "Ann") for _ in range(30))
    column = layout.column(1280, 720)
    placed = list(chips.place_column(chips.column_chips(Scene(reactions=reactions)), column, 1))
    shares = [np.asarray(chips.draw_chip(chip)[1]).max() for chip in placed]
    assert shares[0] == 255
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 60
