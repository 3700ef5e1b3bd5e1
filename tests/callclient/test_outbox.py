"""Pacing of what goes to the server; runs on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callclient.signaling.outbox import BURST, CAPTION_LIFE_S, RATE_PER_S, Outbox


def frame(seq: int) -> str:
    return ""


@pytest.mark.looptime
async def test_control_goes_before_captions(loop_clock: Any) -> None:
    outbox = Outbox(loop_clock)
    outbox.caption(lambda seq: f"caption {seq}")
    outbox.control(lambda seq: f"control {seq}")
    assert (await outbox.next()).frame(1) == "control 1"
    assert (await outbox.next()).frame(2) == "caption 2"


@pytest.mark.looptime
async def test_no_more_than_the_server_takes_is_sent(loop_clock: Any) -> None:
    outbox = Outbox(loop_clock)
    loop = asyncio.get_running_loop()
    started = loop.time()
    count = 200
    for _ in range(count):
        outbox.control(frame)
    for _ in range(count):
        await outbox.next()
    assert loop.time() - started == pytest.approx((count - BURST) / RATE_PER_S, rel=0.02)


@pytest.mark.looptime
async def test_waiting_captions_give_way_to_newer_ones_and_are_counted(loop_clock: Any) -> None:
    outbox = Outbox(loop_clock)
    for _ in range(53):
        outbox.caption(frame)
    assert outbox.captions_dropped == 3


@pytest.mark.looptime
@pytest.mark.documents("a-websocket-that-is-lost/4")
async def test_control_is_never_dropped_in_silence(loop_clock: Any, documented: Any) -> None:
    outbox = Outbox(loop_clock)
    for _ in range(512):
        outbox.control(frame)
    with pytest.raises(OverflowError) as full:
        outbox.control(frame)
    documented("a-websocket-that-is-lost/4", str(full.value))


@pytest.mark.looptime
async def test_a_caption_nobody_would_see_any_more_is_not_sent_and_counted(loop_clock: Any) -> None:
    outbox = Outbox(loop_clock)
    outbox.caption(frame)
    await asyncio.sleep(CAPTION_LIFE_S + 0.1)
    outbox.caption(lambda seq: "fresh")
    assert (await outbox.next()).frame(1) == "fresh"
    assert outbox.captions_dropped == 1


@pytest.mark.looptime
async def test_what_could_not_be_sent_is_the_next_of_its_kind(loop_clock: Any) -> None:
    outbox = Outbox(loop_clock)
    outbox.caption(lambda seq: "caption")
    unsent = await outbox.next()
    outbox.caption(lambda seq: "newer caption")
    outbox.control(lambda seq: "control")
    outbox.again(unsent)
    assert [(await outbox.next()).frame(1) for _ in range(3)] == [
        "control",
        "caption",
        "newer caption",
    ]


@pytest.mark.looptime
async def test_a_rush_is_known_as_such(loop_clock: Any) -> None:
    outbox = Outbox(loop_clock)
    assert not outbox.congested
    for _ in range(int(BURST)):
        outbox.control(frame)
        await outbox.next()
    assert outbox.congested
    await asyncio.sleep(1)
    assert not outbox.congested
