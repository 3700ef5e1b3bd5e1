"""When was it said: mutes, stalls, steps and reports, one at a time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callclient.receive.latency import CAPTIONS, RECORDING
from callclient.receive.tracks import TrackSource
from callclient.timeline.floor import Floor
from callclient.timeline.source_clock import SourceClock

MS = 1_000_000
SECOND = 1000 * MS


def place(clock: SourceClock, sequence: int, timestamp: int, arrival_ns: int) -> int:
    return clock.place(sequence, clock.arrived(sequence, timestamp, arrival_ns))


def test_a_floor_is_the_lowest_of_its_buckets_and_forgets_the_oldest() -> None:
    floor = Floor(50, 0, bucket_ns=10, buckets=3)
    for at, value, lowest in [(5, 40, 40), (9, 60, 40), (11, 45, 40), (22, 70, 40), (33, 80, 45)]:
        floor.observe(value, at)
        assert floor.value == lowest


def test_a_pause_makes_no_floor_old() -> None:
    floor = Floor(10, 0, bucket_ns=10, buckets=3)
    floor.observe(90, 100_000)
    assert floor.value == 10


def test_jitter_does_not_move_media() -> None:
    clock = SourceClock(48_000, is_audio=True)
    jitter_ms = [0, 7, 3, 15, 1, 30, 2, 9, 0, 12]
    times = [place(clock, n, n * 960, n * 20 * MS + j * MS) for n, j in enumerate(jitter_ms)]
    assert all(abs(time - n * 20 * MS) < MS for n, time in enumerate(times))


def test_a_picture_whose_first_packets_were_slow_is_put_right_at_once() -> None:
    clock = SourceClock(90_000, is_audio=False)
    place(clock, 0, 0, 80 * MS)
    assert place(clock, 1, 9000, 100 * MS) == 100 * MS


@pytest.mark.parametrize("clock_stops", [True, False])
@pytest.mark.parametrize("numbers_go_on", [True, False])
@pytest.mark.parametrize("budget", [CAPTIONS, RECORDING])
@pytest.mark.parametrize("mute_s", [0.5, 4.0, 600.0])
def test_after_a_mute_speech_lies_where_it_was_said(
    mute_s: float, budget: Any, numbers_go_on: bool, clock_stops: bool, world: Any
) -> None:
    sender = world.Sender(
        mutes=((2, 2 + mute_s),), clock_stops=clock_stops, numbers_go_on=numbers_go_on
    )
    heard = world.Simulator().hear(
        sender, world.Network(jitter_ms=10), seconds=4 + mute_s, budget=budget
    )
    assert max(map(abs, heard.errors_ms())) < 10
    assert len(heard.frames) == 200
    assert heard.track.statistics.spurts == (2 if clock_stops else 1)
    assert heard.track.statistics.packets_lost == 0
    assert heard.track.statistics.gaps == numbers_go_on


@pytest.mark.parametrize("budget", [CAPTIONS, RECORDING])
def test_a_network_that_stood_still_is_no_mute(budget: Any, world: Any) -> None:
    network = world.Network(stalls=((2.0, 2.6), (4.0, 5.5)))
    heard = world.Simulator().hear(world.Sender(), network, seconds=8, budget=budget)
    assert max(map(abs, heard.errors_ms())) < 1
    assert heard.track.statistics.spurts == 1
    assert len(heard.frames) == 400


def test_numbers_and_timestamps_wrap_around_without_a_jump(world: Any) -> None:
    sender = world.Sender(first_timestamp=2**32 - 960 * 30, first_sequence=2**16 - 50)
    heard = world.Simulator().hear(sender, world.Network(), seconds=4, budget=CAPTIONS)
    assert max(map(abs, heard.errors_ms())) < 1
    assert len(heard.frames) == 200


@pytest.mark.parametrize("step", [-480_000, -(2**31) + 5, 480_000, 2**30])
def test_a_sender_whose_clock_steps_goes_on_by_arrival(step: int, world: Any) -> None:
    sender = world.Sender(steps=((3.0, step),), first_timestamp=1_000_000)
    heard = world.Simulator().hear(sender, world.Network(jitter_ms=5), seconds=8, budget=CAPTIONS)
    assert max(map(abs, heard.errors_ms(after_s=3.5))) < 6
    assert max(map(abs, heard.errors_ms())) < 130
    assert len(heard.frames) == 400


def test_a_restarted_sender_goes_on_by_arrival() -> None:
    clock = SourceClock(48_000, is_audio=True)
    for n in range(50):
        place(clock, 30_000 + n, 5_000_000 + n * 960, n * 20 * MS)
    clock.restarted()
    times = [place(clock, n, n * 960, SECOND + n * 20 * MS) for n in range(3)]
    assert times == [SECOND, SECOND + 20 * MS, SECOND + 40 * MS]


def test_stragglers_from_before_a_mute_stay_before_it() -> None:
    clock = SourceClock(48_000, is_audio=True, settle_ns=100 * MS)
    placed = [clock.arrived(n, n * 960, n * 20 * MS) for n in range(10)]
    clock.settle(200 * MS)
    for n in range(9):
        clock.place(n, placed[n])
    after = clock.arrived(10, 9600, 5 * SECOND)
    assert clock.settling
    assert clock.place(9, placed[9]) == 180 * MS
    clock.settle(5 * SECOND + 100 * MS)
    assert clock.place(10, after) == 5 * SECOND


def test_comfort_noise_with_its_long_gaps_is_neither_held_nor_moved(world: Any) -> None:
    clock = SourceClock(48_000, is_audio=True, settle_ns=100 * MS)
    place(clock, 0, 0, 0)
    for n in range(1, 50):
        at_ns = n * 400 * MS
        assert place(clock, n, n * 19_200, at_ns + (n % 5) * 20 * MS) == pytest.approx(
            at_ns, abs=5 * MS
        )
        assert not clock.settling


@pytest.mark.parametrize("seed", [0, 2, 6])
def test_a_report_that_tells_the_capture_corrects_what_queues_hide(seed: int, world: Any) -> None:
    network = {"jitter_ms": 200, "in_order": True, "seed": seed}
    errors = {}
    for reports in ("", "ours"):
        heard = world.Simulator().hear(
            world.Sender(),
            world.Network(**network),
            seconds=15,
            budget=RECORDING,
            reports=reports,
        )
        errors[reports] = max(map(abs, heard.errors_ms(after_s=8)))
    assert errors["ours"] < 20 < 35 < errors[""]


def test_reports_made_during_a_mute_do_not_move_what_comes_after_it(world: Any) -> None:
    heard = world.Simulator().hear(
        world.Sender(mutes=((3, 7),)),
        world.Network(jitter_ms=5),
        seconds=12,
        budget=CAPTIONS,
        reports="original",
    )
    assert max(map(abs, heard.errors_ms())) < 6


def test_reports_far_from_what_arrives_are_ignored_and_counted() -> None:
    clock = SourceClock(48_000, is_audio=True)
    for n in range(50):
        place(clock, n, n * 960, n * 20 * MS)
    clock.reported(49 * 960, 980 * MS - 900 * MS, 981 * MS)
    clock.reported(49 * 960 + 480_000, 980 * MS, 982 * MS)
    assert clock.reports_ignored == 2
    assert place(clock, 50, 50 * 960, SECOND) == SECOND


def test_sound_of_a_screen_is_placed_like_a_voice(world: Any) -> None:
    heard = world.Simulator().hear(
        world.Sender(mutes=((1, 3),)),
        world.Network(),
        seconds=5,
        budget=CAPTIONS,
        source=TrackSource.SCREEN_AUDIO,
    )
    assert max(map(abs, heard.errors_ms())) < 1


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 10 * SECOND)), max_size=50))
def test_time_never_goes_back_whatever_arrives(packets: list[tuple[int, int]]) -> None:
    clock = SourceClock(90_000, is_audio=False)
    arrival = SECOND
    last = 0
    for number, (timestamp, gap) in enumerate(packets):
        arrival += gap
        now = place(clock, number, timestamp, arrival)
        assert now >= last
        last = now
