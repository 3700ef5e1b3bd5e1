"""When was it said: RTP time, arrival time and what mutes do to them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callclient.timeline.track_clock import TrackClock

MS = 1_000_000
SECOND = 1_000_000_000


def test_jitter_does_not_move_media() -> None:
    clock = TrackClock(48_000)
    jitter_ms = [0, 7, 3, 15, 1, 30, 2, 9, 0, 12]
    times = [clock.place(n * 960, n * 20 * MS + j * MS) for n, j in enumerate(jitter_ms)]
    assert all(abs(time - n * 20 * MS) < MS for n, time in enumerate(times))


def test_the_fastest_packet_corrects_a_late_first_one() -> None:
    clock = TrackClock(48_000)
    clock.place(0, 80 * MS)
    times = [clock.place(n * 960, n * 20 * MS) for n in range(6, 20)]
    assert times[-1] == 19 * 20 * MS


def test_after_a_mute_that_stopped_the_rtp_clock_arrival_decides() -> None:
    clock = TrackClock(48_000)
    for n in range(50):
        clock.place(n * 960, n * 20 * MS)
    resumed_ns = 5 * SECOND
    assert clock.place(50 * 960, resumed_ns) == resumed_ns
    assert clock.place(51 * 960, resumed_ns + 20 * MS) == resumed_ns + 20 * MS


def test_after_a_mute_that_let_the_rtp_clock_run_nothing_jumps() -> None:
    clock = TrackClock(48_000)
    for n in range(50):
        clock.place(n * 960, n * 20 * MS)
    # 250 packet times later; this one took 30 ms longer through the network
    assert abs(clock.place(300 * 960, 300 * 20 * MS + 30 * MS) - 300 * 20 * MS) < 2 * MS


def test_the_clock_wraps_around_without_a_jump() -> None:
    clock = TrackClock(48_000)
    start = 2**32 - 960 * 3
    times = [clock.place((start + n * 960) % 2**32, SECOND + n * 20 * MS) for n in range(10)]
    assert times == [SECOND + n * 20 * MS for n in range(10)]


def test_a_sender_that_steps_back_goes_on_by_arrival() -> None:
    clock = TrackClock(48_000)
    for n in range(500):
        clock.place(1_000_000 + n * 960, n * 20 * MS)
    assert clock.place(5000, 500 * 20 * MS) == 500 * 20 * MS


@given(st.integers(-200, 200))
def test_drift_of_the_senders_clock_is_followed(parts_per_million: int) -> None:
    clock = TrackClock(48_000)
    error_ns = 0
    for n in range(0, 30_000, 10):  # 10 minutes
        true_ns = n * 20 * MS
        rtp = round(n * 960 * (1 + parts_per_million / 1e6))
        error_ns = abs(clock.place(rtp % 2**32, true_ns) - true_ns)
    assert error_ns < 5 * MS


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 10 * SECOND)), max_size=50))
def test_time_never_goes_back_whatever_arrives(packets: list[tuple[int, int]]) -> None:
    clock = TrackClock(90_000)
    arrival = SECOND
    last = 0
    for timestamp, gap in packets:
        arrival += gap
        now = clock.place(timestamp, arrival)
        assert now >= last
        last = now
