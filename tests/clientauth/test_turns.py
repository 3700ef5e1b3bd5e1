"""Who may hash when: few at once, addresses in rotation, bounded queues."""

from __future__ import annotations

import asyncio

import pytest

from clientauth.turns import PEER, HashingTurns, TooManyWaiting


class Desk:
    """Asks for turns and keeps the order in which they were given."""

    def __init__(self, **limits: int) -> None:
        self.turns = HashingTurns(**limits)
        self.order: list[str] = []
        self.go = asyncio.Event()

    async def ask(self, address: str) -> None:
        PEER.set(address)
        async with self.turns.turn():
            self.order.append(address)
            await self.go.wait()

    async def line_up(self, addresses: str) -> list[asyncio.Task[None]]:
        tasks = []
        for address in addresses:
            tasks.append(asyncio.create_task(self.ask(address)))
            await asyncio.sleep(0)
        return tasks


async def test_addresses_take_turns_however_many_one_of_them_asks_for() -> None:
    desk = Desk(at_once=1, waiting_each=10)
    tasks = await desk.line_up("aaaaab")
    desk.go.set()
    await asyncio.gather(*tasks)
    assert "".join(desk.order) == "aabaaa"


async def test_no_more_than_the_limit_hash_at_once() -> None:
    desk = Desk(at_once=2, waiting_each=10)
    tasks = await desk.line_up("abcd")
    assert desk.order == ["a", "b"]
    desk.go.set()
    await asyncio.gather(*tasks)


async def test_beyond_the_bound_an_address_is_refused_at_once_and_others_are_not() -> None:
    desk = Desk(at_once=1, waiting_each=2)
    tasks = await desk.line_up("aaa")
    with pytest.raises(TooManyWaiting):
        await desk.ask("a")
    tasks += await desk.line_up("b")
    desk.go.set()
    await asyncio.gather(*tasks)
    assert sorted(desk.order) == ["a", "a", "a", "b"]


async def test_who_gives_up_waiting_keeps_no_place_and_loses_no_turn() -> None:
    desk = Desk(at_once=1, waiting_each=2)
    first, second, third = await desk.line_up("aab")
    second.cancel()
    desk.go.set()
    await asyncio.gather(first, third)
    assert desk.order == ["a", "b"]
    await desk.ask("a")
    # A turn that is given in the same moment in which its owner gives up goes to the next one.
    desk.go.clear()
    holder, given_up, last = await desk.line_up("abb")
    desk.go.set()
    while not holder.done():
        await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait_for(last, 25)


async def test_all_addresses_together_wait_for_no_more_than_so_many_either() -> None:
    desk = Desk(at_once=1, waiting_each=2, waiting_in_all=3)
    tasks = await desk.line_up("aabc")
    with pytest.raises(TooManyWaiting):
        await desk.ask("d")
    desk.go.set()
    await asyncio.gather(*tasks)
    await desk.ask("d")
