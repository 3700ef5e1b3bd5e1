"""Only whole pictures are shown: from a key frame on, and after a loss not before the next one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from callclient.receive.tracks import Codec, EncodedFrame
from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.screen import ScreenTrack


def lumas(track: ScreenTrack, until_ns: int) -> float | None:
    picture = track.take(until_ns)
    return None if picture is None else float(np.median(picture.frame.to_ndarray()[:100]))


def test_pictures_come_at_their_time_and_the_newest_wins(vp8) -> None:
    track, source = ScreenTrack(LocalDecoder()), vp8()
    for number, luma in enumerate((50, 100, 200)):
        track.push(source.frame(luma, number * 100, key=number == 0))
    assert track.next_time_ns() == 0
    assert lumas(track, 0) is not None
    assert abs(lumas(track, 250) - 200) < 6
    assert track.next_time_ns() is None


def test_nothing_is_decoded_before_a_key_frame(vp8) -> None:
    track, source = ScreenTrack(LocalDecoder()), vp8()
    source.frame(50, 0, key=True)  # lost
    track.push(source.frame(60, 1))
    assert track.wants_key_frame
    assert track.next_time_ns() is None
    track.push(source.frame(70, 2, key=True))
    assert not track.wants_key_frame
    assert abs(lumas(track, 5) - 70) < 6


def test_after_a_loss_the_last_whole_picture_stays_until_a_key_frame(vp8) -> None:
    track, source = ScreenTrack(LocalDecoder()), vp8()
    track.push(source.frame(50, 0, key=True))
    assert abs(lumas(track, 0) - 50) < 6
    source.frame(90, 1)  # lost
    track.push(source.frame(100, 2, lost=1))
    assert track.wants_key_frame
    assert lumas(track, 10) is None
    track.push(replace(source.frame(120, 3, key=True), lost_before=1))
    assert abs(lumas(track, 10) - 120) < 6


def test_garbage_is_counted_and_asks_for_a_key_frame(vp8) -> None:
    track, source = ScreenTrack(LocalDecoder()), vp8()
    good = source.frame(50, 0, key=True)
    track.push(good)
    track.push(replace(good, payload=b"\x00" * 40, time_ns=1))
    track.push(source.frame(60, 2))
    assert lumas(track, 1) is not None
    assert track.frames_broken == 1
    assert track.next_time_ns() is None
    assert track.wants_key_frame


def test_pictures_that_wait_are_bounded(vp8) -> None:
    track, source = ScreenTrack(LocalDecoder()), vp8(64, 64)
    for number in range(100):
        track.push(source.frame(number, number, key=number == 0))
    assert track.next_time_ns() == 100 - 64


def test_a_screen_that_goes_on_in_another_codec_is_decoded_from_its_next_key_frame(
    vp8, av1
) -> None:
    track = ScreenTrack(LocalDecoder())
    track.push(vp8().frame(120, 1, key=True))
    key, delta = [
        EncodedFrame(unit, 2 + number, 0, number == 0, 0, codec=Codec.AV1)
        for number, unit in enumerate(av1(64, 96))
    ]
    track.push(delta)
    assert track.wants_key_frame
    track.push(key)
    track.push(delta)
    newest = track.take(10)
    assert newest is not None
    assert (newest.frame.width, newest.frame.height) == (64, 96)
    assert track.frames_decoded == 3
