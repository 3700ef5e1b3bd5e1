"""Emptying a server: refusals, time limit, status (rtcd.md 1.1, trap 36)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from sfu.drain import Drain, DrainConflict


@dataclass
class Sessions:
    """A media plane of which only the number of sessions counts."""

    count: int = 0
    calls: set[tuple[str, str]] = field(default_factory=set)

    def session_count(self) -> int:
        return self.count

    def sessions(self, group_id: str, call_id: str) -> list[object] | None:
        return [] if (group_id, call_id) in self.calls else None


class LoopClock:
    """The event loop's time, which `looptime` moves."""

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


def new_drain(media: Sessions) -> Drain:
    return Drain(media=media, clock=LoopClock())


@pytest.mark.looptime
async def test_without_sessions_a_stop_is_immediate() -> None:
    await new_drain(Sessions()).stop(refusal="none", timeout_s=None, hurry=asyncio.Event())
    assert asyncio.get_running_loop().time() < 0.2


@pytest.mark.looptime
async def test_a_stop_waits_for_the_last_session_however_long_it_stays() -> None:
    media = Sessions(2)
    drain = new_drain(media)
    stopping = asyncio.create_task(
        drain.stop(refusal="none", timeout_s=None, hurry=asyncio.Event())
    )
    await asyncio.sleep(200)
    media.count = 1
    await asyncio.sleep(200)
    assert not stopping.done()
    media.count = 0
    async with asyncio.timeout(1):
        await stopping


@pytest.mark.looptime
async def test_a_limit_ends_the_wait_and_the_status_counts_down() -> None:
    drain = new_drain(Sessions(3))
    stopping = asyncio.create_task(drain.stop(refusal="none", timeout_s=60, hurry=asyncio.Event()))
    await asyncio.sleep(20)
    assert drain.status() == {
        "draining": True,
        "stopping": True,
        "refuse": "none",
        "sessions": 3,
        "secondsLeft": pytest.approx(40, abs=0.5),
    }
    await stopping
    assert asyncio.get_running_loop().time() == pytest.approx(60, abs=0.5)


@pytest.mark.looptime
async def test_a_limit_of_0_ends_the_wait_at_once() -> None:
    await new_drain(Sessions(3)).stop(refusal="none", timeout_s=0, hurry=asyncio.Event())
    assert asyncio.get_running_loop().time() < 0.2


@pytest.mark.looptime
async def test_a_hurry_ends_the_wait() -> None:
    hurry = asyncio.Event()
    stopping = asyncio.create_task(
        new_drain(Sessions(3)).stop(refusal="none", timeout_s=None, hurry=hurry)
    )
    await asyncio.sleep(5)
    assert not stopping.done()
    hurry.set()
    await stopping
    assert asyncio.get_running_loop().time() == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize(
    ("refusal", "known_call", "new_call"),
    [("none", False, False), ("calls", False, True), ("joins", True, True)],
)
def test_what_is_refused(refusal, known_call: bool, new_call: bool) -> None:
    drain = new_drain(Sessions(1, {("group", "known")}))
    assert not drain.refuses("group", "new")
    drain.begin(refusal)
    assert drain.refuses("group", "known") is known_call
    assert drain.refuses("group", "new") is new_call
    assert drain.refuses("other", "known") is new_call
    drain.end()
    assert not drain.refuses("group", "new")


@pytest.mark.looptime
async def test_a_signal_never_refuses_less_than_the_admin_wanted() -> None:
    drain = new_drain(Sessions(1))
    drain.begin("joins")
    await drain.stop(refusal="calls", timeout_s=0, hurry=asyncio.Event())
    assert drain.status()["refuse"] == "joins"
    drain.begin("none")
    assert drain.status()["refuse"] == "joins"


@pytest.mark.looptime
@pytest.mark.documents("a-drain-that-cannot-be-taken-back")
async def test_a_drain_for_the_end_cannot_be_taken_back(documented) -> None:
    drain = new_drain(Sessions(1))
    await drain.stop(refusal="none", timeout_s=0, hurry=asyncio.Event())
    with pytest.raises(DrainConflict) as refused:
        drain.end()
    documented("a-drain-that-cannot-be-taken-back", str(refused.value))
    assert drain.draining
