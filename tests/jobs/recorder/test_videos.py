"""Screens and cameras are shown while their owners show them."""

from __future__ import annotations

import pytest

from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.scene import Person, Scene, Tile
from jobs.recorder.videos import Videos

S = 1_000_000_000
ANN = Tile("s-ann", Person("u-ann", "ann"), False, None, False, 0, camera=True)


@pytest.fixture
def videos() -> Videos:
    videos = Videos(LocalDecoder())
    show(videos, Scene((ANN,), 1))
    return videos


def show(videos: Videos, scene: Scene, at_ns: int = 0) -> None:
    """Told and at once so."""
    videos.foresee(scene, at_ns)
    videos.scene_changed(scene)


def test_a_camera_s_picture_is_shown_at_its_time(videos, vp8) -> None:
    videos.push("t", "s-ann", vp8().frame(90, 1 * S, key=True), camera=True)
    assert videos.next_time_ns() == 1 * S
    videos.take(1 * S - 1)
    assert videos.cameras() == ()
    videos.take(1 * S)
    ((session_id, picture),) = videos.cameras()
    assert (session_id, picture.time_ns) == ("s-ann", 1 * S)


def test_a_camera_that_is_switched_off_shows_nothing_any_more(videos, vp8) -> None:
    videos.push("t", "s-ann", vp8().frame(90, 0, key=True), camera=True)
    videos.take(0)
    off = Tile("s-ann", ANN.person, False, None, False, 0, camera=False)
    videos.scene_changed(Scene((off,), 1))
    assert videos.cameras() == ()


def test_a_camera_that_sends_nothing_any_more_gives_way(videos, vp8) -> None:
    videos.push("t", "s-ann", vp8().frame(90, 0, key=True), camera=True)
    videos.take(0)
    stale_ns = videos.next_time_ns()
    assert stale_ns == 4 * S
    videos.take(stale_ns - 1)
    assert videos.cameras()
    videos.take(stale_ns)
    assert videos.cameras() == ()


def test_nobody_s_camera_is_looked_at_while_a_screen_is_shared(videos, vp8) -> None:
    videos.push("t", "s-ann", vp8().frame(90, 0, key=True), camera=True)
    videos.take(0)
    videos.scene_changed(Scene((ANN,), 1, "s-ben"))
    assert videos.cameras() == ()
    assert videos.next_time_ns() is None


def test_cameras_that_nobody_sees_are_not_decoded_and_asked_for_a_key_frame_in_time(
    videos, vp8
) -> None:
    source = vp8()
    videos.push("t", "s-ann", source.frame(90, 0, key=True), camera=True)
    videos.foresee(Scene((ANN,), 1, "s-ben"), 2 * S)
    videos.push("t", "s-ann", source.frame(120, 1 * S), camera=True)
    assert videos.waiting_for_key_frame() == []
    videos.take(1 * S)
    ((_, picture),) = videos.cameras()
    assert picture.time_ns == 1 * S, "what was captured before the share is still shown"
    videos.push("t", "s-ann", source.frame(150, 2 * S), camera=True)
    videos.scene_changed(Scene((ANN,), 1, "s-ben"))
    videos.push("t", "s-ann", source.frame(160, 3 * S, key=True), camera=True)
    videos.take(3 * S)
    assert videos.tracks[0].frames_decoded == 2
    assert videos.waiting_for_key_frame() == [], "nobody would see it"

    videos.foresee(Scene((ANN,), 1), 4 * S)
    assert videos.waiting_for_key_frame() == ["t"], "before its time has come"
    videos.push("t", "s-ann", source.frame(170, 4 * S), camera=True)
    videos.push("t", "s-ann", source.frame(200, 5 * S, key=True), camera=True)
    assert videos.waiting_for_key_frame() == []
    videos.scene_changed(Scene((ANN,), 1))
    videos.take(5 * S)
    ((_, picture),) = videos.cameras()
    assert picture.time_ns == 5 * S
    assert picture.frame.to_ndarray()[: picture.frame.height].mean() == pytest.approx(200, abs=4)


def test_who_has_camera_and_screen_is_told_apart(videos, vp8) -> None:
    videos.push("t1", "s-ann", vp8().frame(90, 0, key=True), camera=True)
    videos.push("t2", "s-ann", vp8(64, 64).frame(200, 0, key=True), camera=False)
    videos.scene_changed(Scene((ANN,), 1, "s-ann"))
    videos.take(0)
    assert videos.screen() is not None
    assert videos.screen().frame.width == 64
    videos.scene_changed(Scene((ANN,), 1))
    assert videos.screen() is None


def test_key_frames_are_asked_of_cameras_that_are_on(videos, vp8) -> None:
    source = vp8()
    source.frame(1, 0, key=True)
    late = source.frame(2, 1)
    videos.push("on", "s-ann", late, camera=True)
    videos.push("off", "s-ben", late, camera=True)
    videos.push("screen", "s-ben", late, camera=False)
    assert videos.waiting_for_key_frame() == ["on", "screen"]


def test_the_last_picture_of_a_track_stays_until_its_owner_stops_sharing(videos, vp8) -> None:
    videos.scene_changed(Scene((ANN,), 1, "s-ann"))
    videos.push("t", "s-ann", vp8().frame(90, 0, key=True), camera=False)
    videos.end("t")  # told at once, while the recording is half a second behind
    assert videos.waiting_for_key_frame() == []
    videos.take(0)
    assert videos.screen() is not None
    assert len(videos.tracks) == 1
    videos.scene_changed(Scene((ANN,), 1))
    assert videos.screen() is None
    assert videos.tracks == ()


def test_a_track_that_follows_another_is_shown_in_its_place(videos, vp8) -> None:
    videos.push("t1", "s-ann", vp8().frame(90, 0, key=True), camera=True)
    videos.push("t2", "s-ann", vp8(64, 64).frame(90, 1, key=True), camera=True)
    videos.end("t1")
    videos.take(1)
    ((_, picture),) = videos.cameras()
    assert picture.frame.width == 64
    videos.take(4 * S)
    assert len(videos.tracks) == 1, "the old one is gone once it is stale"
