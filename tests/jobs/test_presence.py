"""The call's events, as waits that cannot be missed and one reason for the end."""

from __future__ import annotations

import asyncio
import time

import pytest

from callclient.errors import JoinRefused
from callclient.events import CallEnded, JobKind, JobStateChanged, JobStopRequested, Joined
from jobs.presence import Presence


@pytest.fixture
async def presence(peer):
    """Running until the test ends."""
    seen = Presence(peer, on_event=lambda event: None)
    async with asyncio.TaskGroup() as tasks:
        staying = tasks.create_task(seen.run())
        yield seen
        await seen.leave(staying)


def state(*, start: int = 0, end: int = 0) -> JobStateChanged:
    return JobStateChanged(JobKind.RECORDING, 900, start, end, "")


async def test_joined_and_started_are_waited_for(peer, presence) -> None:
    started = asyncio.create_task(presence.until_started())
    peer.emit(Joined("s"))
    assert await presence.until_joined()
    assert not started.done()
    peer.emit(state(start=1000))
    assert await started
    assert presence.recording_start_ms == 1000


async def test_zero_never_moves(peer, presence) -> None:
    peer.emit(state(start=1000), state(start=2000))
    await presence.until_recording_starts()
    peer.emit(JobStopRequested())
    await presence.until_over()
    assert presence.recording_start_ms == 1000


@pytest.mark.parametrize(
    ("event", "reason"),
    [(JobStopRequested(), "asked to stop"), (CallEnded("the host ended it"), "the host ended it")],
)
async def test_every_wait_ends_with_the_call(peer, presence, event, reason: str) -> None:
    waits = [
        asyncio.create_task(wait)
        for wait in (
            presence.until_joined(),
            presence.until_started(),
            presence.until_recording_starts(),
            presence.until_over(),
        )
    ]
    peer.emit(event)
    async with asyncio.timeout(25):
        answers = await asyncio.gather(*waits)
    assert answers == [False, False, None, None]
    assert presence.reason == reason


async def test_the_client_s_failure_is_kept_as_the_reason(peer, presence) -> None:
    peer.fail(JoinRefused("call is full"))
    await presence.until_over()
    assert isinstance(presence.failure, JoinRefused)
    assert "call is full" in presence.reason


async def test_the_first_reason_counts(peer, presence) -> None:
    presence.end("a signal")
    peer.emit(JobStopRequested())
    peer.emit(Joined("s"))
    await presence.until_joined()
    assert presence.reason == "a signal"


async def test_a_recording_that_ended_before_it_began_is_no_start(peer, presence) -> None:
    peer.emit(Joined("s"), state(end=1500))
    assert not await presence.until_started()
    assert presence.recording_over


async def test_leaving_does_not_wait_for_ever(peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.presence._LEAVE_TIMEOUT_S", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(peer, "leave", hang)
    presence = Presence(peer, on_event=lambda event: None)
    staying = asyncio.create_task(presence.run())
    await presence.leave(staying)
    with pytest.raises(asyncio.CancelledError):
        await staying


@pytest.mark.parametrize("ahead_s", [90, -90])
async def test_clocks_that_are_apart_are_told_whichever_is_ahead(peer, ahead_s: int) -> None:
    # What the server shows as `ms` is `peer.zero_ns` plus what has passed since its 1000 ms.
    our_ms = time.time_ns() // 1_000_000
    peer.zero_ns = time.monotonic_ns() - (our_ms + ahead_s * 1000 - 1000) * 1_000_000
    apart_s = Presence(peer, on_event=lambda event: None).clock_offset_s()
    assert apart_s == pytest.approx(90, abs=20)
