"""A frame is written when something changed, at its time, never faster than asked, rarely without reason."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest

from jobs.recorder.compositor import View
from jobs.recorder.decoding.local import LocalDecoder
from jobs.recorder.happenings import Emoji, Reaction
from jobs.recorder.inbox import SceneChange
from jobs.recorder.picture_line import PictureLine, SpeakingChange
from jobs.recorder.scene import Person, Scene, Tile

ZERO_NS = 3_000_000_000
ZERO_UTC = datetime(2026, 1, 31, 10, 5, 58, tzinfo=UTC)
MS = 1_000_000
ANN = Tile("s-ann", Person("u-ann", "ann"), False, None, False, 0)


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
    return PictureLine(
        sink, compositor, frame_rate=20, zero_ns=ZERO_NS, zero_utc=ZERO_UTC, decoder=LocalDecoder()
    )


def at(ms: float) -> int:
    return ZERO_NS + round(ms * MS)


def run(line: PictureLine, until_ms: float) -> None:
    for ms in range(0, int(until_ms) + 1, 50):
        line.advance(at(ms))


def test_a_call_that_stands_still_has_four_frames_a_second(line, sink) -> None:
    run(line, 1000)
    assert sink.times == [0, 0.25, 0.5, 0.75, 1.0]


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
    times = np.array(sink.times)
    assert np.diff(times).min() >= 0.025 - 0.0001
    assert (times >= np.arange(len(times)) * 0.05 - 0.0251).all(), "the rate is kept on average"
    assert compositor.views[-1].scene.participants == 190


def test_a_change_that_changes_nothing_writes_nothing(line, sink) -> None:
    line.push(SceneChange(at(-500), Scene((ANN,), 1)))
    line.advance(at(0))
    line.push(SceneChange(at(100), Scene((ANN,), 1)))
    line.push(SpeakingChange(at(200), "s-ann", speaking=False))
    line.advance(at(199))
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


def test_nobody_speaks_whose_voice_does_not_come_whatever_the_server_told_last(
    line, compositor
) -> None:
    line.push(SceneChange(at(0), Scene((replace(ANN, speaking=True),), 1)))
    line.push(SpeakingChange(at(100), "s-ann", speaking=False, sending=True))
    line.push(SpeakingChange(at(300), "s-ann", speaking=False, sending=False))
    line.push(SceneChange(at(400), Scene((replace(ANN, speaking=True, host=True),), 1)))
    line.push(SpeakingChange(at(600), "s-ann", speaking=False, sending=True))
    run(line, 700)
    shown = [(view.scene.tiles[0].host, bool(view.speaking)) for view in compositor.views]
    assert list(dict.fromkeys(shown)) == [
        (False, True),
        (False, False),
        (True, False),
        (True, True),
    ]


def test_the_clock_moves_on_with_the_recording(line, compositor) -> None:
    run(line, 3000)
    minutes = [view.minute.minute for view in compositor.views]
    assert minutes == [5] * 8 + [6] * 5


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


def test_a_reaction_passes_at_its_own_time(line, sink, compositor) -> None:
    reaction = Reaction("s-ann", Emoji("tada", "1f389"), at(70), "ann")
    line.advance(at(0))
    line.push(SceneChange(at(130), Scene((ANN,), 1, reactions=(reaction,))))
    run(line, 10_300)
    assert 0.13 in sink.times
    assert 10.07 in sink.times
    shown = dict(zip(sink.times, compositor.views, strict=True))
    assert shown[10.07].scene.reactions == ()
    assert shown[10.07].scene.tiles[0].reaction is None
    before = max(start for start in shown if start < 10.07)
    assert shown[before].scene.tiles[0].reaction == reaction.emoji


def test_a_lost_connection_counts_its_seconds(line, sink, compositor) -> None:
    line.advance(at(0))
    line.push(SceneChange(at(200), Scene((ANN,), 1, lost_since_ns=at(70))))
    run(line, 4300)
    shown = {start: view.lost_s for start, view in zip(sink.times, compositor.views, strict=True)}
    assert [shown[start] for start in (2.07, 3.07, 4.07)] == [2, 3, 4]
    assert shown[max(start for start in shown if start < 2.07)] is None


def test_cameras_are_shown_at_their_capture_time_and_give_way_when_silent(
    line, sink, compositor, vp8
) -> None:
    line.push(SceneChange(at(0), Scene((replace(ANN, camera=True),), 1)))
    line.advance(at(0))
    line.push_camera("t1", "s-ann", vp8().frame(90, at(110), key=True))
    run(line, 4600)
    with_camera = [
        start for start, view in zip(sink.times, compositor.views, strict=True) if view.cameras
    ]
    assert with_camera[0] == 0.11
    assert max(with_camera) < 4.11
    assert 4.11 in sink.times


def share(line, vp8, times_ms, *, size: tuple[int, int] = (640, 360), track: str = "t1"):
    """Pictures of a shared screen, each of another brightness, captured at those times."""
    source = vp8(*size)
    for number, ms in enumerate(times_ms):
        luma = 30 + 40 * (number % 5)
        line.push_screen(track, "s-ann", source.frame(luma, at(ms), key=number == 0))
        line.advance(at(ms - 500))


@pytest.fixture
def shared(line):
    line.push(SceneChange(at(-10), Scene((ANN,), 1, "s-ann")))
    return line


@pytest.mark.parametrize("per_second", [5, 10, 15, 20])
def test_a_source_no_faster_than_the_file_keeps_its_own_times(
    shared, sink, vp8, per_second
) -> None:
    times_ms = [1000 + n * 1000 / per_second for n in range(2 * per_second)]
    share(shared, vp8, times_ms)
    run(shared, 3500)
    own = [t for t in sink.times if 1.0 <= t < 3.0]
    assert own == pytest.approx([ms / 1000 for ms in times_ms], abs=0.0002)


def test_a_source_whose_times_waver_keeps_them(shared, sink, vp8) -> None:
    times_ms = [1000 + 50 * n + (8 if n % 2 else -8) for n in range(40)]
    share(shared, vp8, times_ms)
    run(shared, 3200)
    assert [round(t * 1000) for t in sink.times if 0.9 < t < 3] == times_ms


@pytest.mark.parametrize("per_second", [24, 30, 60])
def test_a_faster_source_fills_the_asked_rate_and_is_at_most_a_frame_late(
    shared, sink, compositor, vp8, per_second
) -> None:
    share(shared, vp8, [1000 + n * 1000 / per_second for n in range(3 * per_second)])
    run(shared, 4000)
    times = [t for t in sink.times if 1.1 <= t < 3.9]
    assert len(times) == pytest.approx(20 * 2.8, abs=1.5)
    for start, view in zip(sink.times, compositor.views, strict=True):
        if 1.0 <= start < 3.9:
            assert view.screen is not None
            assert -0.001 <= start - (view.screen.time_ns - ZERO_NS) / 1e9 <= 0.05


def test_a_screen_that_stands_still_costs_four_frames_a_second(shared, sink, vp8) -> None:
    share(shared, vp8, [1000])
    run(shared, 5000)
    assert [t for t in sink.times if t >= 1.0] == pytest.approx([1.0 + n / 4 for n in range(17)])


def test_a_window_that_is_resized_in_mid_share_is_shown_in_each_size(
    shared, sink, compositor, vp8
) -> None:
    share(shared, vp8, [1000, 1100])
    share(shared, vp8, [1200, 1300], size=(360, 640))
    share(shared, vp8, [1400], size=(1280, 720))
    run(shared, 1500)
    shown = {
        start: (view.screen.frame.width, view.screen.frame.height)
        for start, view in zip(sink.times, compositor.views, strict=True)
        if view.screen is not None
    }
    assert shown[1.1] == (640, 360)
    assert shown[1.2] == shown[1.3] == (360, 640)
    assert shown[1.4] == (1280, 720)


def test_two_shares_in_a_row_are_shown_each_from_its_first_picture(
    line, sink, compositor, vp8
) -> None:
    ben = replace(ANN, session_id="s-ben")
    line.push(SceneChange(at(0), Scene((ANN, ben), 2, "s-ann")))
    share(line, vp8, [100, 600])
    line.push(SceneChange(at(1000), Scene((ANN, ben), 2, "s-ben")))
    line.end_track("t1")
    line.push_screen("t2", "s-ben", vp8(320, 180).frame(90, at(1300), key=True))
    run(line, 1500)
    widths = {
        start: None if view.screen is None else view.screen.frame.width
        for start, view in zip(sink.times, compositor.views, strict=True)
    }
    assert (widths[0.6], widths[1.0], widths[1.3]) == (640, None, 320)


def test_a_limited_rate_is_kept_and_lifted_again(shared, sink, vp8) -> None:
    shared.limit_rate(0.25)
    share(shared, vp8, [n * 50 for n in range(1, 80)])
    assert len([t for t in sink.times if 1 <= t < 3]) == pytest.approx(10, abs=1)
    shared.limit_rate(1.0)
    share(shared, vp8, [n * 50 for n in range(80, 140)])
    assert len([t for t in sink.times if 4.5 <= t < 6.4]) == pytest.approx(38, abs=1)


def test_two_frames_a_second_stay_whatever_the_limit(shared, sink) -> None:
    shared.limit_rate(0.01)
    run(shared, 3000)
    assert sink.times == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75]


def test_no_frame_comes_later_than_the_one_before_is_said_to_last(shared, sink, vp8) -> None:
    share(shared, vp8, [500, 1000, 1040, 1400, 2300, 2733])
    run(shared, 4000)
    for (start, duration), (after, _) in pairwise(sink.written):
        assert after <= start + duration + 0.0001
