"""A host that is too slow gets fewer pictures, then simpler ones, and all of them back when it can."""

from __future__ import annotations

from jobs.recorder.pace import STEPS, Pace

SECOND = 1_000_000_000


class Host:
    """Steps of 50 ms that take a share of the time."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.pace = Pace(now_ns=0)

    def run(self, seconds: float, load: float) -> list[int]:
        """The levels after each change."""
        levels = []
        for _ in range(round(seconds * 20)):
            self.now_ns += SECOND // 20
            if self.pace.worked(round(SECOND / 20 * load), self.now_ns):
                levels.append(self.pace.level)
        return levels


def test_a_host_with_room_changes_nothing() -> None:
    assert Host().run(60, 0.7) == []


def test_one_slow_moment_changes_nothing() -> None:
    host = Host()
    host.run(4, 0.3)
    assert host.run(0.5, 1.0) + host.run(3.5, 0.3) == []


def test_the_frame_rate_goes_first_then_the_encoder_s_trouble_then_the_size() -> None:
    host = Host()
    assert host.run(20, 1.0) == [1, 2, 3, 4]
    assert [(s.rate_share, s.lighter, s.smaller) for s in STEPS] == [
        (1, False, False),
        (0.5, False, False),
        (0.25, False, False),
        (0.25, True, False),
        (0.25, True, True),
    ]


def test_it_stays_where_it_is_fast_enough() -> None:
    host = Host()
    host.run(4, 1.0)
    level = host.pace.level
    assert host.run(60, 0.6) == []
    assert host.pace.level == level


def test_it_comes_back_step_by_step_and_the_slowest_is_remembered() -> None:
    host = Host()
    host.run(4, 1.0)
    assert host.run(60, 0.1) == [1, 0]
    assert host.pace.slowest == 2


def test_a_step_up_that_was_too_much_is_tried_later_and_later() -> None:
    host = Host()
    host.run(2, 1.0)
    tries = []
    for _ in range(4):
        began_ns = host.now_ns
        while host.pace.level == 1:
            host.run(0.05, 0.2)
        tries.append((host.now_ns - began_ns) / SECOND)
        host.run(2, 1.0)
    assert [round(t) for t in tries] == [10, 20, 40, 80]
