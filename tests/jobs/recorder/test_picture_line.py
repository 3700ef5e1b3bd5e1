"""A frame is written when something changed, at its time, never faster than asked, rarely without reason."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from jobs.recorder.compositor import View
from jobs.recorder.inbox import SceneChange
from jobs.recorder.picture_line import PictureLine, SpeakingChange
from jobs.recorder.scene import Person, Scene, Tile

ZERO_NS = 3_000_000_000
ZERO_UTC = datetime(2026, 1, 31, 10, 5, 58, tzinfo=UTC)
MS = 1_000_000
ANN = Tile("s-ann", Person("u-ann", "ann"), False, None, False, False)


@dataclass
class FakeSink:
    written: list[tuple[float, float]] = field(default_factory=list)
    """(start, duration), s."""

    def write_picture(self, planes: object, *, ticks: int, duration: int) -> None:
        self.written.append((round(ticks / 90_000, 4), round(duration / 90_000, 4)))

    @property
    def times(self) -> list[float]:
        return [start for start, _ in self.written]


@dataclass
class FakeCompositor:
    views: list[View] = field(default_factory=list)

    def compose(self, view: View) -> object:
        self.views.append(view)
        return None


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def compositor() -> FakeCompositor:
    return FakeCompositor()


@pytest.fixture
def line(sink, compositor) -> PictureLine:
    return PictureLine(sink, compositor, frame_rate=20, zero_ns=ZERO_NS, zero_utc=ZERO_UTC)


def at(ms: float) -> int:
    return ZERO_NS + round(ms * MS)


def run(line: PictureLine, until_ms: float) -> None:
    for ms in range(0, int(until_ms) + 1, 50):
        line.advance(at(ms))


def test_a_call_that_stands_still_has_two_frames_a_second(line, sink) -> None:
    run(line, 2000)
    assert sink.times == [0, 0.5, 1.0, 1.5, 2.0]


def test_a_change_is_written_at_its_own_time_however_late_it_is_processed(line, sink) -> None:
    line.advance(at(0))
    line.push(SceneChange(at(123), Scene((ANN,), 1)))
    line.advance(at(300))
    assert sink.times == [0, 0.123]


def test_many_changes_are_thinned_to_the_frame_rate_and_the_last_is_shown(
    line, sink, compositor
) -> None:
    line.advance(at(0))
    for ms in range(10, 200, 10):
        line.push(SceneChange(at(ms), Scene((), ms)))
    line.advance(at(400))
    gaps = np.diff(sink.times)
    assert gaps.min() >= 0.05 - 0.0001
    assert compositor.views[-1].scene.participants == 190


def test_a_change_that_changes_nothing_writes_nothing(line, sink) -> None:
    line.push(SceneChange(at(-500), Scene((ANN,), 1)))
    line.advance(at(0))
    line.push(SceneChange(at(100), Scene((ANN,), 1)))
    line.push(SpeakingChange(at(200), "s-ann", speaking=False))
    line.advance(at(400))
    assert sink.times == [0]


def test_changes_before_the_start_are_in_the_first_frame(line, compositor) -> None:
    line.push(SceneChange(at(-300), Scene((ANN,), 1)))
    line.push(SpeakingChange(at(-100), "s-ann", speaking=True))
    line.advance(at(0))
    assert compositor.views[0].scene.tiles == (ANN,)
    assert compositor.views[0].speaking == {"s-ann"}


@pytest.mark.parametrize(
    ("told", "muted", "shown"),
    [(None, False, True), (False, False, False), (True, False, True), (True, True, False)],
)
def test_the_server_s_word_on_speaking_beats_our_ear_and_muted_is_never_speaking(
    line, compositor, told: bool | None, muted: bool, shown: bool
) -> None:
    line.push(SpeakingChange(at(-100), "s-ann", speaking=True))
    line.push(SceneChange(at(-50), Scene((replace(ANN, speaking=told, muted=muted),), 1)))
    line.advance(at(0))
    assert (compositor.views[0].speaking == {"s-ann"}) == shown


def test_the_clock_moves_on_with_the_recording(line, compositor) -> None:
    run(line, 3000)
    minutes = [view.minute.minute for view in compositor.views]
    assert minutes == [5, 5, 5, 5, 6, 6, 6]


def test_screen_pictures_are_shown_at_their_capture_time_while_their_owner_shares(
    line, sink, compositor, vp8
) -> None:
    source = vp8()
    line.push(SceneChange(at(0), Scene((ANN,), 1, "s-ann")))
    line.advance(at(0))
    line.push_screen("t1", "s-ann", source.frame(50, at(110), key=True))
    line.push_screen("t1", "s-ann", source.frame(90, at(230)))
    line.push(SceneChange(at(300), Scene((ANN,), 1)))
    line.advance(at(450))
    assert sink.times == [0, 0.11, 0.23, 0.3]
    assert [view.screen is not None for view in compositor.views] == [False, True, True, False]


def test_the_screen_of_somebody_who_does_not_share_is_not_shown(line, compositor, vp8) -> None:
    line.push(SceneChange(at(0), Scene((ANN,), 1, "s-ben")))
    line.push_screen("t1", "s-ann", vp8().frame(50, at(10), key=True))
    run(line, 600)
    assert all(view.screen is None for view in compositor.views)


def test_a_second_share_does_not_begin_with_the_last_picture_of_the_first(
    line, compositor, vp8
) -> None:
    line.push(SceneChange(at(0), Scene((ANN,), 1, "s-ann")))
    line.push_screen("t1", "s-ann", vp8().frame(50, at(10), key=True))
    line.push(SceneChange(at(300), Scene((ANN,), 1)))
    line.push(SceneChange(at(600), Scene((ANN,), 1, "s-ann")))
    run(line, 900)
    assert compositor.views[-1].scene.screen_session_id == "s-ann"
    assert compositor.views[-1].screen is None


def test_tracks_that_wait_for_a_key_frame_are_named(line, vp8) -> None:
    source = vp8()
    line.push_screen("t1", "s-ann", source.frame(1, at(0), key=True))
    line.push_screen("t2", "s-ann", source.frame(1, at(0)))
    assert line.waiting_for_key_frame() == ["t2"]
    line.end_track("t2")
    assert line.waiting_for_key_frame() == []


def test_the_pictures_end_when_the_recording_ends(line, sink) -> None:
    run(line, 700)
    line.finish(at(1234))
    start, duration = sink.written[-1]
    assert start + duration == pytest.approx(1.234, abs=0.0001)
    assert sink.times == sorted(sink.times)


def test_a_host_that_is_too_slow_loses_pictures_and_counts_them(line, sink) -> None:
    line.advance(at(0))
    line.push(SceneChange(at(100), Scene((), 7)))
    line.advance(at(5000))
    assert sink.times[1] == 4.0
    assert line.skipped_ns > 3_000 * MS
