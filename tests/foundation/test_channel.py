"""The bounded channel."""

from __future__ import annotations

import asyncio

import pytest

from foundation.channel import Channel, ChannelClosed, Overflow


async def test_items_come_out_in_order_and_iteration_ends_with_the_close() -> None:
    channel: Channel[int] = Channel(3)
    for number in range(3):
        assert channel.offer(number)
    channel.close()
    assert [item async for item in channel] == [0, 1, 2]


async def test_a_full_control_channel_refuses_an_offer_and_counts_it() -> None:
    channel: Channel[int] = Channel(1)
    assert channel.offer(1)
    assert not channel.offer(2)
    assert channel.statistics().dropped == 1
    assert await channel.receive() == 1


async def test_a_full_media_channel_drops_the_oldest_and_counts_it() -> None:
    channel: Channel[int] = Channel(2, overflow=Overflow.DROP_OLDEST)
    for number in range(5):
        assert channel.offer(number)
    assert channel.statistics().dropped == 3
    assert [channel.receive_nowait() for _ in range(3)] == [3, 4, None]


async def test_send_waits_for_room() -> None:
    channel: Channel[int] = Channel(1)
    await channel.send(1)
    second = asyncio.create_task(channel.send(2))
    await asyncio.sleep(0)
    assert not second.done()
    assert await channel.receive() == 1
    await second
    assert await channel.receive() == 2


async def test_closing_wakes_senders_and_receivers() -> None:
    full: Channel[int] = Channel(1)
    await full.send(1)
    empty: Channel[int] = Channel(1)
    waiting = [asyncio.create_task(full.send(2)), asyncio.create_task(empty.receive())]
    await asyncio.sleep(0)
    full.close()
    empty.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ChannelClosed, ChannelClosed]


async def test_a_cancelled_receiver_passes_its_wake_up_on() -> None:
    channel: Channel[int] = Channel(2)
    first = asyncio.create_task(channel.receive())
    second = asyncio.create_task(channel.receive())
    await asyncio.sleep(0)
    channel.offer(7)
    first.cancel()
    assert await asyncio.wait_for(second, 25) == 7
    with pytest.raises(asyncio.CancelledError):
        await first


def test_a_channel_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Channel(0)
