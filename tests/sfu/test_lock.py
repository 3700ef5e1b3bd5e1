"""Who may change tracks: one owner at a time, waits on virtual time (rtcd.md 3.2)."""

from __future__ import annotations

import asyncio

import pytest

from sfu.lock import SignalingLock

pytestmark = pytest.mark.looptime


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_a_free_lock_is_the_servers_at_once() -> None:
    lock, start_s = SignalingLock(), now_s()
    assert await lock.acquire_for_server(timeout_s=5)
    assert now_s() == start_s
    assert not lock.client_holds


async def test_a_client_gets_the_lock_or_a_no_but_never_waits() -> None:
    lock = SignalingLock()
    assert await lock.acquire_for_server(timeout_s=5)
    assert lock.try_for_client() is False
    lock.release_by_server()
    assert lock.try_for_client() is True
    assert lock.client_holds


async def test_a_client_that_asks_again_still_holds_the_lock() -> None:
    lock = SignalingLock()
    assert lock.try_for_client()
    assert lock.try_for_client()
    assert lock.release_by_client()
    assert not lock.client_holds


async def test_the_server_waits_exactly_its_time_and_then_does_not_hold_the_lock() -> None:
    lock, start_s = SignalingLock(), now_s()
    assert lock.try_for_client()
    assert not await lock.acquire_for_server(timeout_s=5)
    assert now_s() - start_s == pytest.approx(5)
    assert lock.client_holds
    assert lock.release_by_client()
    assert lock.try_for_client()


async def test_the_server_gets_the_lock_when_the_client_unlocks() -> None:
    lock, start_s = SignalingLock(), now_s()
    assert lock.try_for_client()
    asyncio.get_running_loop().call_later(3, lock.release_by_client)
    assert await lock.acquire_for_server(timeout_s=5)
    assert now_s() - start_s == pytest.approx(3)
    assert not lock.try_for_client()


async def test_a_client_that_is_quicker_after_an_unlock_makes_the_server_wait_on() -> None:
    lock, start_s = SignalingLock(), now_s()
    assert lock.try_for_client()

    def unlock_and_lock() -> None:
        lock.release_by_client()
        assert lock.try_for_client()

    asyncio.get_running_loop().call_later(1, unlock_and_lock)
    asyncio.get_running_loop().call_later(2, lock.release_by_client)
    assert await lock.acquire_for_server(timeout_s=5)
    assert now_s() - start_s == pytest.approx(2)


async def test_a_client_cannot_free_the_servers_lock() -> None:
    lock = SignalingLock()
    assert await lock.acquire_for_server(timeout_s=5)
    assert lock.release_by_client() is False
    assert lock.try_for_client() is False


async def test_the_server_cannot_free_the_clients_lock() -> None:
    lock = SignalingLock()
    assert lock.try_for_client()
    lock.release_by_server()
    assert lock.client_holds
    assert not await lock.acquire_for_server(timeout_s=1)


async def test_unlocking_a_free_lock_is_told_and_harmless() -> None:
    lock = SignalingLock()
    assert lock.release_by_client() is False
    lock.release_by_server()
    assert lock.try_for_client()


async def test_a_server_that_stops_waiting_leaves_the_lock_alone() -> None:
    lock = SignalingLock()
    assert lock.try_for_client()
    waiting = asyncio.create_task(lock.acquire_for_server(timeout_s=5))
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert lock.release_by_client()
    assert lock.try_for_client()


async def test_five_turns_of_server_and_client_never_overlap() -> None:
    lock = SignalingLock()
    inside: list[str] = []
    turns: list[str] = []

    async def client() -> None:
        while turns.count("client") < 5:
            if lock.try_for_client():
                await work("client")
                lock.release_by_client()
            await asyncio.sleep(0.1)

    async def server() -> None:
        while turns.count("server") < 5:
            assert await lock.acquire_for_server(timeout_s=5)
            await work("server")
            lock.release_by_server()
            await asyncio.sleep(0.05)

    async def work(who: str) -> None:
        inside.append(who)
        await asyncio.sleep(0.3)
        assert inside == [who]
        inside.remove(who)
        turns.append(who)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(client())
        tasks.create_task(server())
    assert turns.count("client") == turns.count("server") == 5


async def test_how_long_it_was_held_is_told_whoever_held_it() -> None:
    held: list[float] = []
    lock = SignalingLock(held=held.append)
    assert lock.try_for_client()
    await asyncio.sleep(2)
    lock.take_over()
    await asyncio.sleep(3)
    lock.release_by_server()
    lock.release_by_server()
    assert held == [2, 3]
