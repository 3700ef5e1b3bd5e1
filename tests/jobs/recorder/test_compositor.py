"""What viewers see, judged by pixels."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import av
import numpy as np
import pytest

from jobs.recorder.compositor import Compositor, View
from jobs.recorder.happenings import Emoji, Reaction
from jobs.recorder.layout import contained, grid
from jobs.recorder.scene import Person, Scene, Tile
from jobs.recorder.screen import ScreenPicture

MINUTE = datetime(2026, 1, 31, 10, 5, tzinfo=UTC)
RING = (55, 124, 97)
GRID_BACKGROUND = (48, 48, 48)


def tile(name: str, **changes) -> Tile:
    return replace(Tile(f"s-{name}", Person(f"u-{name}", name), True, None, False, 0), **changes)


def picture(compositor: Compositor, view: View) -> np.ndarray:
    planes = compositor.compose(view)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv420p")
    return frame.to_ndarray(format="rgb24").astype(int)


def near(pixel: np.ndarray, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(pixel - np.array(colour)).max() <= tolerance)


@pytest.fixture
def compositor() -> Compositor:
    return Compositor(1280, 720)


def ring_pixel(rgb: np.ndarray, count: int, index: int) -> np.ndarray:
    """Just above the avatar, where only a ring can be."""
    places = grid(count, width=1280, height=720)
    box = places.boxes[index]
    return rgb[box.top + places.size.padding - 2, box.left + box.width // 2]


def name_pixels(rgb: np.ndarray, count: int, index: int) -> int:
    places = grid(count, width=1280, height=720)
    box, size = places.boxes[index], places.size
    top = box.top + size.padding + size.avatar + size.gap
    return int((rgb[top : top + size.name_line, box.left : box.right].min(axis=2) > 140).sum())


def test_a_ring_glows_around_who_speaks_and_nobody_else(compositor) -> None:
    scene = Scene((tile("ann", muted=False), tile("ben", muted=False)), 2)
    rgb = picture(compositor, View(scene, frozenset({"s-ann"}), MINUTE))
    assert near(ring_pixel(rgb, 2, 0), RING)
    assert near(ring_pixel(rgb, 2, 1), GRID_BACKGROUND)


def test_every_tile_has_its_name(compositor) -> None:
    scene = Scene((tile("Alice Adams"), tile(""), tile("bo")), 3)
    rgb = picture(compositor, View(scene, frozenset(), MINUTE))
    many, none, few = (name_pixels(rgb, 3, index) for index in range(3))
    assert many > few > 10
    assert none == 0


def test_long_names_stay_inside_their_tile(compositor) -> None:
    scene = Scene((tile("Wolfeschlegelsteinhausenbergerdorff " * 3), tile("")), 2)
    rgb = picture(compositor, View(scene, frozenset(), MINUTE))
    assert name_pixels(rgb, 2, 0) > 100
    assert name_pixels(rgb, 2, 1) == 0


def test_the_microphone_badge_tells_muted_from_unmuted(compositor) -> None:
    scene = Scene((tile("ann", muted=True), tile("ben", muted=False)), 2)
    rgb = picture(compositor, View(scene, frozenset(), MINUTE))
    places = grid(2, width=1280, height=720)
    colours = []
    for box in places.boxes:
        size = places.size
        right = box.left + (size.width + size.avatar) // 2
        colours.append(rgb[box.top + size.padding + size.avatar - size.badge // 2, right - 5])
    assert near(colours[0], (48, 60, 85), 20)
    assert near(colours[1], (61, 184, 135), 25)


def test_the_users_picture_is_shown_round(compositor) -> None:
    person = Person("u", "ann", bytes((200, 30, 30)) * 32**2)
    rgb = picture(compositor, View(Scene((tile("ann", person=person),), 1), frozenset(), MINUTE))
    places = grid(1, width=1280, height=720)
    box, size = places.boxes[0], places.size
    left = box.left + (size.width - size.avatar) // 2
    top = box.top + size.padding
    assert near(rgb[top + size.avatar // 2, left + size.avatar // 2], (200, 30, 30), 20)
    assert near(rgb[top + 4, left + 4], GRID_BACKGROUND), "the corner is cut off"


@pytest.mark.parametrize("data", [b"no picture", bytes(3 * 8**2 + 1)])
def test_an_unusable_picture_becomes_initials(compositor, data: bytes) -> None:
    person = Person("u", "Ann Ash", data)
    rgb = picture(compositor, View(Scene((tile("x", person=person),), 1), frozenset(), MINUTE))
    box, size = (lambda g: (g.boxes[0], g.size))(grid(1, width=1280, height=720))
    face = rgb[box.top + size.padding :, box.left : box.right][: size.avatar]
    assert (face.min(axis=2) > 200).sum() > 100, "white letters"


def test_a_hand_and_the_host_are_marked(compositor) -> None:
    plain = picture(compositor, View(Scene((tile("ann"),), 1), frozenset(), MINUTE))
    scene = Scene((tile("ann", hand_raised_at_ms=1, host=True),), 1)
    marked = picture(compositor, View(scene, frozenset(), MINUTE))
    changed = np.argwhere(np.abs(marked - plain).max(axis=2) > 20)
    box, size = (lambda g: (g.boxes[0], g.size))(grid(1, width=1280, height=720))
    badge_top = box.top + size.padding + size.avatar - size.badge
    assert changed[:, 0].min() >= badge_top - 2
    assert changed[:, 0].max() > box.top + size.padding + size.avatar + size.gap + size.name_line


def test_the_footer_tells_time_and_number_of_participants(compositor) -> None:
    one = picture(compositor, View(Scene((), 1), frozenset(), MINUTE))
    three = picture(compositor, View(Scene((), 3), frozenset(), MINUTE))
    later = picture(compositor, View(Scene((), 1), frozenset(), MINUTE.replace(minute=6)))
    assert near(one[700, 640], (0, 0, 0))
    for other in (three, later):
        changed = np.argwhere(np.abs(other - one).max(axis=2) > 40)
        assert changed[:, 0].min() >= 688


def shared(luma: int = 200) -> ScreenPicture:
    planes = np.full((720 * 3 // 2, 1280), 128, np.uint8)
    planes[:720] = luma
    return ScreenPicture(0, av.VideoFrame.from_ndarray(planes, format="yuv420p"))


def test_a_shared_screen_fills_its_box_and_only_that(compositor) -> None:
    scene = Scene((tile("ann"),), 1, "s-ann")
    rgb = picture(compositor, View(scene, frozenset(), MINUTE, shared()))
    box = contained(1280, 720, width=1280, height=720)
    inside = rgb[box.top + 1 : box.bottom - 1, box.left + 1 : box.right - 1]
    grey = (200 - 16) * 255 / 219
    assert (np.abs(inside - grey).max(axis=2) < 8).mean() > 0.98, "all but the pill"
    assert near(rgb[300, box.left - 3], (30, 30, 30))
    assert near(rgb[300, box.right + 2], (30, 30, 30))


def test_the_pill_names_the_sharer_and_the_footer_who_talks(compositor) -> None:
    scene = Scene((tile("ann"), tile("ben", muted=False)), 2, "s-ann")
    silent = picture(compositor, View(scene, frozenset(), MINUTE, shared()))
    talking = picture(compositor, View(scene, frozenset({"s-ben"}), MINUTE, shared()))
    pill = silent[644:664, 600:680]
    assert pill.mean() < 120, "dark over the bright screen"
    assert silent[690:, 1000:].max() < 30
    assert (talking[690:, 1000:].min(axis=2) > 140).sum() > 50


def test_an_unknown_sharer_has_no_pill(compositor) -> None:
    view = View(Scene((), 0, "s-nobody"), frozenset(), MINUTE, shared())
    assert picture(compositor, view)[644:664, 600:680].mean() > 180


def test_after_the_share_nothing_of_it_is_left(compositor) -> None:
    scene = Scene((tile("ann"),), 1, "s-ann")
    grid_before = picture(
        compositor, View(replace(scene, screen_session_id=""), frozenset(), MINUTE)
    )
    picture(compositor, View(scene, frozenset(), MINUTE, shared()))
    grid_after = picture(
        compositor, View(replace(scene, screen_session_id=""), frozenset(), MINUTE)
    )
    np.testing.assert_array_equal(grid_before, grid_after)


def camera(rgb: tuple[int, int, int], size: tuple[int, int] = (640, 360)) -> ScreenPicture:
    image = np.full((size[1], size[0], 3), rgb, np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
    return ScreenPicture(0, frame)


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (320, 320), (1920, 1080), (22, 1000)])
def test_a_camera_fills_its_tile_and_only_that(compositor, size: tuple[int, int]) -> None:
    scene = Scene((tile("ann"), tile("ben")), 2)
    plain = picture(compositor, View(scene, frozenset(), MINUTE))
    view = View(scene, frozenset(), MINUTE, cameras=(("s-ann", camera((30, 60, 200), size)),))
    rgb = picture(compositor, view)
    places = grid(2, width=1280, height=720)
    box = places.boxes[0]
    middle = rgb[box.top + 90, box.left + 20 : box.right - 20]
    assert np.abs(middle - (30, 60, 200)).max() < 14
    other = places.boxes[1]
    np.testing.assert_array_equal(
        rgb[other.top : other.bottom, other.left : other.right],
        plain[other.top : other.bottom, other.left : other.right],
    )
    again = picture(compositor, View(scene, frozenset(), MINUTE))
    np.testing.assert_array_equal(again, plain)


def test_badges_and_ring_stay_visible_with_a_camera(compositor) -> None:
    scene = Scene((tile("ann", muted=False, hand_raised_at_ms=1),), 1)
    cameras = (("s-ann", camera((30, 60, 200))),)
    silent = picture(compositor, View(scene, frozenset(), MINUTE, cameras=cameras))
    talking = picture(compositor, View(scene, frozenset({"s-ann"}), MINUTE, cameras=cameras))
    box, size = (lambda g: (g.boxes[0], g.size))(grid(1, width=1280, height=720))
    bottom = silent[box.top + size.camera_height - 30, box.left : box.right]
    assert any(near(pixel, (61, 184, 135), 25) for pixel in bottom), "the microphone"
    assert any(near(pixel, (255, 188, 31), 40) for pixel in bottom), "the hand"
    assert near(talking[box.top + 90, box.left + 1], RING, 20)
    assert near(silent[box.top + 90, box.left + 1], GRID_BACKGROUND)


def test_nobody_there_yet_is_said_calmly(compositor) -> None:
    rgb = picture(compositor, View(Scene(), frozenset(), MINUTE))
    middle = rgb[320:370, 400:880]
    assert 100 < (middle.min(axis=2) > 120).sum() < 4000
    assert near(rgb[100, 640], GRID_BACKGROUND)


def test_a_lost_connection_is_marked_in_both_modes(compositor) -> None:
    scene = Scene((tile("ann"),), 1)
    for screen in (None, shared()):
        plain = picture(compositor, View(scene, frozenset(), MINUTE, screen))
        lost = picture(compositor, View(scene, frozenset(), MINUTE, screen, lost_s=7))
        changed = np.argwhere(np.abs(lost - plain).max(axis=2) > 12)
        assert changed[:, 0].max() < 60
        assert 540 < changed[:, 1].mean() < 740


def test_reactions_float_over_grid_and_screen_and_leave_nothing_behind(compositor) -> None:
    scene = Scene((tile("ann"), tile("ben")), 2)
    lively = replace(scene, reactions=(Reaction("s-ann", Emoji("x"), 0, "Ann"),))
    for screen in (None, shared()):
        before = picture(compositor, View(scene, frozenset(), MINUTE, screen))
        during = picture(compositor, View(lively, frozenset(), MINUTE, screen))
        after = picture(compositor, View(scene, frozenset(), MINUTE, screen))
        assert np.abs(during[640:672, 24:60] - before[640:672, 24:60]).max() > 20
        np.testing.assert_array_equal(after, before)


def test_only_what_changed_is_painted(compositor) -> None:
    scene = Scene(tuple(tile(f"p{n}", muted=False) for n in range(8)), 8)
    compositor.compose(View(scene, frozenset(), MINUTE))
    painted, put = compositor.pieces_painted, compositor.pieces_put
    compositor.compose(View(scene, frozenset({"s-p3"}), MINUTE))
    assert (compositor.pieces_painted - painted, compositor.pieces_put - put) == (1, 1)
    for speaking in ({"s-p4"}, {"s-p3"}, {"s-p4"}, set()):
        compositor.compose(View(scene, frozenset(speaking), MINUTE))
    assert compositor.pieces_painted - painted == 2, "one tile with a ring each"
    assert compositor.pieces_put - put <= 8


def test_what_is_kept_is_bounded() -> None:
    compositor = Compositor(1280, 720)
    for number in range(400):
        compositor.compose(View(Scene((tile(f"p{number}"),), 1), frozenset(), MINUTE))
    assert compositor.kept_bytes <= 25 * 1024 * 1024


def test_what_only_one_minute_shows_is_not_kept_longer() -> None:
    """A lively call has some footers a minute, and hours of them would be kept for nobody."""
    compositor, kept = Compositor(640, 360), []
    for minute in range(6):
        for count in (1, 2, 3, 2, 1):
            people = Scene(tuple(tile(f"p{n}") for n in range(count)), count)
            compositor.compose(View(people, frozenset(), MINUTE + timedelta(minutes=minute)))
        kept.append(compositor.kept_bytes)
    assert kept == [kept[0]] * 6


def test_a_tile_in_a_new_place_leaves_nothing_at_the_old_one(compositor) -> None:
    people = [tile(f"p{n}") for n in range(12)]
    fresh = Compositor(1280, 720)
    for count in (12, 3, 7, 1, 0, 12):
        scene = Scene(tuple(people[:count]), count)
        rgb = picture(compositor, View(scene, frozenset(), MINUTE))
    np.testing.assert_array_equal(rgb, picture(fresh, View(scene, frozenset(), MINUTE)))
