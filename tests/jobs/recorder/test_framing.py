"""Layouts: what of a call is shown, who is in front, and what need not even be decoded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from jobs.recorder import layout, speaker_layout
from jobs.recorder.compositor import Compositor, View
from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.framing import AUDIO_ONLY, Framing, picture_source
from jobs.recorder.happenings import Emoji, Notice, Reaction
from jobs.recorder.inbox import SceneChange
from jobs.recorder.picture_line import PictureLine, SpeakingChange
from jobs.recorder.scene import Person, Scene, Tile

MS = 1_000_000
MINUTE = datetime(2026, 1, 31, 10, 5, tzinfo=UTC)


def tile(name: str, **more) -> Tile:
    plain = Tile(f"s-{name}", Person(f"u-{name}", name), False, None, False, 0)
    return replace(plain, **more)


TILES = tuple(tile(name, camera=True) for name in ("ann", "bob", "cid"))
SHARED = Scene(
    TILES,
    3,
    "s-bob",
    (Reaction("s-ann", Emoji("tada", "1f389"), 0, "ann"),),
    (Notice("s-cid", "is now the host", 0, "cid"),),
)


def test_auto_shows_everything() -> None:
    assert Framing().scene(SHARED) == SHARED


def test_the_grid_stays_a_grid_while_somebody_shares() -> None:
    framing = Framing("grid")
    assert framing.scene(SHARED) == replace(SHARED, screen_session_id="")
    assert not framing.takes_screens
    assert framing.takes_cameras


def test_nothing_lies_over_a_screen_that_is_what_matters() -> None:
    framing = Framing("screen")
    raised = replace(SHARED, tiles=(tile("ann", hand_raised_at_ms=5), tile("bob")))
    shown = framing.scene(raised)
    assert (shown.screen_session_id, shown.reactions, shown.notices) == ("s-bob", (), ())
    assert all(not t.hand_raised_at_ms for t in shown.tiles)
    assert framing.takes_screens
    assert not framing.takes_cameras
    grid = framing.scene(replace(SHARED, screen_session_id=""))
    assert grid.reactions == SHARED.reactions
    assert not any(t.camera for t in grid.tiles)


def test_a_recording_of_sound_shows_nobody() -> None:
    framing = Framing(AUDIO_ONLY)
    assert framing.scene(SHARED) == Scene()
    assert not framing.takes_screens
    assert not framing.takes_cameras


def front(framing: Framing, scene: Scene, speaking: str, at_ms: int) -> str:
    sessions = frozenset(f"s-{name}" for name in speaking.split())
    return framing.ordered(scene, sessions, at_ms * MS).tiles[0].person.name


def test_who_speaks_is_in_front_until_another_speaks_and_the_first_was_silent_for_a_second() -> (
    None
):
    framing, scene = Framing("speaker"), Scene(TILES, 3)
    assert front(framing, scene, "", 0) == "ann", "somebody has to be"
    assert front(framing, scene, "bob", 1_000) == "bob"
    assert front(framing, scene, "bob cid", 3_000) == "bob", "interrupted"
    assert front(framing, scene, "cid", 3_500) == "bob", "a breath"
    assert front(framing, scene, "bob", 3_900) == "bob"
    assert front(framing, scene, "cid", 4_800) == "bob"
    assert front(framing, scene, "cid", 4_900) == "cid"
    assert front(framing, scene, "", 60_000) == "cid", "nobody speaks: nothing moves"


def test_when_the_one_in_front_leaves_who_speaks_follows_at_once() -> None:
    framing = Framing("speaker")
    assert front(framing, Scene(TILES, 3), "ann", 0) == "ann"
    assert front(framing, Scene(TILES[1:], 2), "cid", 10) == "cid"
    assert framing.ordered(Scene(), frozenset(), 20 * MS) == Scene()


def test_the_others_keep_their_order() -> None:
    ordered = Framing("speaker").ordered(Scene(TILES, 3), frozenset({"s-cid"}), 0)
    assert [t.person.name for t in ordered.tiles] == ["cid", "ann", "bob"]


def test_other_layouts_have_no_front() -> None:
    scene = Scene(TILES, 3)
    assert Framing("auto").ordered(scene, frozenset({"s-cid"}), 0) is scene


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (3840, 2160), (1280, 2160)])
@pytest.mark.parametrize("count", [1, 2, 5, 40, 200])
def test_the_large_tile_and_the_column_stay_inside_and_apart(
    size: tuple[int, int], count: int
) -> None:
    width, height = size
    places = speaker_layout.arrange(count, width=width, height=height)
    area = layout.main_area(width, height)
    assert 1 <= len(places.boxes) <= count
    for number, box in enumerate(places.boxes):
        assert 0 <= box.left < box.right <= area.right
        assert 0 <= box.top < box.bottom <= area.bottom
        assert not any(v % 2 for v in (box.left, box.top, box.width, box.height))
        wanted = places.size_of(number)
        assert (box.width, box.height) == (wanted.width, wanted.height)
        for other in places.boxes[:number]:
            apart = box.left >= other.right or box.top >= other.bottom or other.left >= box.right
            assert apart or other.top >= box.bottom
    first = places.boxes[0]
    if count > 1:
        assert first.width * first.height > 8 * places.boxes[1].width * places.boxes[1].height
        assert len(places.boxes) > 1


def test_the_speaker_s_tile_is_large_in_the_picture_and_changes_with_the_speaker(settings) -> None:
    source = picture_source(replace(settings, layout="speaker"))
    assert isinstance(source, Compositor)
    views = [
        View(Scene(order, 3), frozenset(), MINUTE)
        for order in (TILES, (TILES[1], TILES[0], TILES[2]))
    ]
    one, two = (source.compose(view).copy() for view in views)
    differs = np.abs(one[:720].astype(int) - two[:720]) > 8
    rows, columns = np.nonzero(differs)
    assert columns.min() < 640 < columns.max(), "the large tile, and the column at the right"
    assert rows.max() - rows.min() > 200


class Frames:
    def __init__(self) -> None:
        self.times_ms: list[int] = []

    def write_picture(self, planes, *, ticks: int, duration: int) -> None:
        self.times_ms.append(ticks // 90)


class Views:
    def __init__(self) -> None:
        self.seen: list[View] = []

    def compose(self, view: View) -> np.ndarray:
        self.seen.append(view)
        return np.zeros((3, 2), np.uint8)


def test_the_pictures_of_a_recording_follow_its_framing() -> None:
    views = Views()
    line = PictureLine(
        Frames(),
        views,
        frame_rate=20,
        zero_ns=0,
        zero_utc=MINUTE,
        decoder=LocalDecoder(),
        framing=Framing("speaker"),
    )
    line.push(SceneChange(0, Scene(TILES, 3)))
    line.push(SpeakingChange(1_500 * MS, "s-cid", True))
    for at_ms in range(0, 3_000, 50):
        line.advance(at_ms * MS)
    fronts = [view.scene.tiles[0].person.name for view in views.seen if view.scene.tiles]
    assert (fronts[0], fronts[-1]) == ("ann", "cid")


def test_screens_that_are_not_shown_are_not_decoded(vp8) -> None:
    line = PictureLine(
        Frames(),
        Views(),
        frame_rate=20,
        zero_ns=0,
        zero_utc=MINUTE,
        decoder=LocalDecoder(),
        framing=Framing("grid"),
    )
    line.push(SceneChange(0, SHARED))
    line.push_screen("screen", "s-bob", vp8().frame(100, 0, key=True))
    line.advance(1_000 * MS)
    assert line.video_tracks == ()
    assert line.waiting_for_key_frame() == []


def test_the_still_picture_is_calm_and_names_nobody(settings) -> None:
    source = picture_source(replace(settings, audio_only=True))
    view = View(Framing(AUDIO_ONLY).scene(SHARED), frozenset(), MINUTE)
    first = source.compose(view).copy()
    later = source.compose(replace(view, minute=MINUTE.replace(minute=9)))
    assert (first == later).all()
    luma = first[:720]
    assert luma.max() > 200, "there is something to be read"
    assert (luma == np.median(luma)).mean() > 0.95, "and hardly anything else"
    named = source.compose(View(SHARED, frozenset(), MINUTE))
    assert (first == named).all()
