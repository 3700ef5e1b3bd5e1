"""Frames of a screen that show nothing new cost no picture, and nothing that they show is held back long."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from callclient.receive.tracks import EncodedFrame
from jobs.recorder.compositor import View
from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.inbox import SceneChange
from jobs.recorder.picture_line import PictureLine
from jobs.recorder.scene import Person, Scene, Tile

ANN = Tile("s-ann", Person("u-ann", "ann"), False, None, False, 0)
INTERVAL_MS = 66


@dataclass
class Shown:
    """Compositor and sink: when which picture of the screen was written."""

    views: list[View] = field(default_factory=list)
    written: list[tuple[float, float]] = field(default_factory=list)
    """ms: of the frame, and of the picture in it."""

    def compose(self, view: View) -> object:
        self.views.append(view)
        return None

    def write_picture(self, planes: object, *, ticks: int, duration: int) -> None:
        picture = self.views[-1].screen
        self.written.append((ticks / 90, -1 if picture is None else picture.time_ns / 1e6))


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def line(shown) -> PictureLine:
    line = PictureLine(
        shown,
        shown,
        frame_rate=20,
        zero_ns=0,
        zero_utc=datetime(2026, 1, 31, tzinfo=UTC),
        decoder=LocalDecoder(),
    )
    line.push(SceneChange(0, Scene((ANN,), 1, "s-ann")))
    return line


def shimmering(source, number: int) -> EncodedFrame:
    """Each differs from the one before, but nobody would see it."""
    at_ns = number * INTERVAL_MS * 1_000_000
    return source.frame(90 + number % 2, at_ns, key=number == 0)


def show(line: PictureLine, frames: list[EncodedFrame]) -> None:
    for frame in frames:
        line.push_screen("t", "s-ann", frame)
        line.advance(frame.time_ns - 500_000_000)
    line.advance(frames[-1].time_ns)


def test_a_picture_sent_again_and_again_is_written_as_rarely_as_a_grid(line, shown, vp8) -> None:
    source = vp8(320, 192)
    show(line, [shimmering(source, n) for n in range(61)])
    times_ms = [at_ms for at_ms, _ in shown.written]
    assert all(later - earlier >= 200 for earlier, later in pairwise(times_ms))
    # Once a second with the newest that was due, so that nothing stays behind; in between nothing is made.
    assert all(at_ms - picture_ms < 1000 + INTERVAL_MS for at_ms, picture_ms in shown.written)
    assert len({picture_ms for _, picture_ms in shown.written}) <= 5


def test_a_picture_that_is_the_same_to_the_bit_is_not_made_anew(line, shown, vp8) -> None:
    source = vp8(320, 192)
    show(line, [source.frame(90, n * INTERVAL_MS * 1_000_000, key=n == 0) for n in range(61)])
    assert len(shown.written) > 10
    assert {view.screen for view in shown.views[5:]} == {shown.views[5].screen}


def test_a_change_among_frames_that_change_nothing_is_written_at_its_own_time(
    line, shown, vp8
) -> None:
    source = vp8(320, 192)
    lumas = [90] * 20 + [130] * 20
    frames = [
        source.frame(luma, n * INTERVAL_MS * 1_000_000, key=n == 0) for n, luma in enumerate(lumas)
    ]
    show(line, frames)
    changed_ms = 20 * INTERVAL_MS
    assert (changed_ms, changed_ms) in [(round(a), round(b)) for a, b in shown.written]


def test_the_last_frame_shows_the_newest_picture(line, shown, vp8) -> None:
    source = vp8(320, 192)
    last_ns = 11 * INTERVAL_MS * 1_000_000
    frames = [source.frame(90, n * INTERVAL_MS * 1_000_000, key=n == 0) for n in range(11)]
    show(line, [*frames, source.frame(91, last_ns)])
    line.finish(11 * INTERVAL_MS * 1_000_000 + 60_000_000)
    assert shown.written[-1][1] == 11 * INTERVAL_MS
