from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from testbed.bots.pacing import DriftingClock, Grid, sleep_until, ticks

pytestmark = pytest.mark.looptime


class LoopClock:
    """The event loop's (virtual) time."""

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def utc_now(self) -> datetime:
        return datetime.fromtimestamp(0, UTC)


def test_the_next_index_is_the_first_moment_not_before_now() -> None:
    grid = Grid(zero_ns=100, interval_ns=20)
    assert [grid.next_index(now) for now in (100, 101, 120, 121)] == [0, 1, 1, 2]
    assert grid.at_ns(3) == 160


async def test_ticks_come_at_their_absolute_times() -> None:
    clock = LoopClock()
    grid = Grid(clock.monotonic_ns() + 5_000_000, 20_000_000)
    seen = []
    async for tick in ticks(clock, grid):
        seen.append((tick, clock.monotonic_ns() - grid.zero_ns))
        if len(seen) == 3:
            break
    assert [tick for tick, _ in seen] == [0, 1, 2]
    assert [at_ns for _, at_ns in seen] == pytest.approx([0, 20e6, 40e6], abs=1e4)


async def test_a_late_reader_catches_up_and_does_not_drift() -> None:
    clock = LoopClock()
    grid = Grid(clock.monotonic_ns(), 20_000_000)
    seen = []
    async for tick in ticks(clock, grid):
        seen.append((tick, round((clock.monotonic_ns() - grid.zero_ns) / 1e6)))
        if tick == 1:
            await asyncio.sleep(0.065)  # busy elsewhere
        if tick == 6:
            break
    assert seen == [(0, 0), (1, 20), (2, 85), (3, 85), (4, 85), (5, 100), (6, 120)]


async def test_a_moment_that_has_passed_is_not_waited_for() -> None:
    clock = LoopClock()
    before_ns = clock.monotonic_ns()
    await sleep_until(clock, before_ns - 1)
    assert clock.monotonic_ns() == before_ns


async def test_a_drifting_clock_is_wrong_by_its_millionths_and_knows_the_right_time() -> None:
    clock = LoopClock()
    zero_ns = clock.monotonic_ns()
    fast = DriftingClock(clock, zero_ns=zero_ns, ppm=100)
    assert fast.monotonic_ns() == zero_ns
    await asyncio.sleep(600)
    assert fast.monotonic_ns() - zero_ns == pytest.approx(600.06e9, abs=1e6)
    assert fast.true_ns(fast.monotonic_ns()) == pytest.approx(clock.monotonic_ns(), abs=1000)


async def test_ticks_of_a_slow_clock_come_later_and_later() -> None:
    clock = LoopClock()
    zero_ns = clock.monotonic_ns()
    slow = DriftingClock(clock, zero_ns=zero_ns, ppm=-1000)
    async for tick in ticks(slow, Grid(zero_ns, 20_000_000)):
        if tick == 500:
            break
    assert clock.monotonic_ns() - zero_ns == pytest.approx(10.01e9, abs=2e6)
