"""Pacing of what goes to the server; runs on virtual time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from callclient.signaling.outbox import BURST, RATE_PER_S, Outbox


class LoopClock:
    """The clock of a loop whose time is virtual."""

    def utc_now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


async def send_nothing() -> None:
    return


@pytest.mark.looptime
async def test_control_goes_before_captions() -> None:
    outbox = Outbox(LoopClock())

    async def caption() -> None: ...

    async def control() -> None: ...

    outbox.caption(caption)
    outbox.control(control)
    assert await outbox.next() is control
    assert await outbox.next() is caption


@pytest.mark.looptime
async def test_no_more_than_the_server_takes_is_sent() -> None:
    outbox = Outbox(LoopClock())
    loop = asyncio.get_running_loop()
    started = loop.time()
    count = 200
    for _ in range(count):
        outbox.control(send_nothing)
    for _ in range(count):
        await outbox.next()
    assert loop.time() - started == pytest.approx((count - BURST) / RATE_PER_S, rel=0.02)


@pytest.mark.looptime
async def test_waiting_captions_give_way_to_newer_ones_and_are_counted() -> None:
    outbox = Outbox(LoopClock())
    for _ in range(53):
        outbox.caption(send_nothing)
    assert outbox.captions_dropped == 3


@pytest.mark.looptime
async def test_control_is_never_dropped_in_silence() -> None:
    outbox = Outbox(LoopClock())
    for _ in range(512):
        outbox.control(send_nothing)
    with pytest.raises(OverflowError, match="512"):
        outbox.control(send_nothing)
