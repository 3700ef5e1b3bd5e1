"""What only a server does: several replicas on it, and being away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from offloader.errors import CapacityReached, StoreError
from offloader.models import Job, JobSpec, JobType
from offloader.store.base import Lease
from offloader.store.database import open_database
from offloader.store.stores import Stores, open_stores

Open = Callable[[], Awaitable[Stores]]


def job(number: int) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, {})
    return Job(f"{number:012x}", "client", spec, datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
async def open_replica(postgres: Any, tmp_path: Path) -> AsyncIterator[Open]:
    """Each with a pool of its own on one database, under one key."""
    source = postgres.new_database()
    async with AsyncExitStack() as stack:

        async def open_one() -> Stores:
            opened = open_stores(source, environ={}, state_dir=tmp_path)
            return await stack.enter_async_context(opened)

        yield open_one


async def test_a_hundred_requests_at_three_replicas_do_not_overshoot(open_replica: Open) -> None:
    replicas = [await open_replica() for _ in range(3)]

    async def attempt(number: int) -> bool:
        try:
            await replicas[number % 3].jobs.reserve(
                job(number), admits=lambda live, _: len(live) < 10
            )
        except CapacityReached:
            return False
        return True

    assert sum(await asyncio.gather(*(attempt(number) for number in range(100)))) == 10
    assert len(await replicas[0].jobs.live()) == 10


async def test_changes_of_one_job_at_two_replicas_are_all_kept(open_replica: Open) -> None:
    replicas = [await open_replica() for _ in range(2)]
    await replicas[0].jobs.reserve(job(1), admits=lambda *_: True)

    def one_more(before: Job) -> Job:
        return replace(before, exit_code=(before.exit_code or 0) + 1)

    await asyncio.gather(*(replicas[n % 2].jobs.change(job(1).id, one_more) for n in range(40)))
    changed = await replicas[0].jobs.get(job(1).id)
    assert changed is not None
    assert changed.exit_code == 40


async def test_leases_go_by_the_servers_clock(open_replica: Open) -> None:
    one, two = await open_replica(), await open_replica()
    await one.jobs.reserve(job(1), admits=lambda *_: True, lease=Lease("one", ttl_s=20))
    await one.jobs.reserve(job(2), admits=lambda *_: True, lease=Lease("one", ttl_s=0))
    claim = await two.jobs.claim(Lease("two"))
    assert [each.id for each in claim.live] == [job(2).id]


async def test_what_one_replica_keeps_the_other_finds(open_replica: Open) -> None:
    one, two = await open_replica(), await open_replica()
    await one.clients.put("a", "hash")
    await one.sessions.put("a", "token", lifetime_s=60)
    await one.secrets.put_secret("j", "a", "https://x", "auth-token")
    assert await two.clients.get("a") == "hash"
    session = await two.sessions.get("token")
    assert session is not None
    assert session.client_id == "a"
    assert await two.secrets.newest_secret("a", "https://x") == "auth-token"
    await two.clients.delete("a")
    assert await one.sessions.get("token") is None


async def test_a_server_that_was_away_is_an_error_and_then_back(
    postgres: Any, open_replica: Open
) -> None:
    stores = await open_replica()
    await stores.jobs.reserve(job(1), admits=lambda *_: True)
    await asyncio.to_thread(postgres.restart)
    assert await stores.jobs.get(job(1).id) == job(1), "a dead connection is replaced unseen"
    await asyncio.to_thread(postgres.stop)
    try:
        for call in (stores.jobs.live(), stores.clients.put("a", "hash"), stores.jobs.get("x")):
            with pytest.raises(StoreError, match=r"^database postgresql://.*/test_\w+: \S"):
                await call
    finally:
        await asyncio.to_thread(postgres.restart)
    assert list(await stores.jobs.live()) == [job(1)]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "postgresql://someone:hidden-word@127.0.0.1:1/calls?sslmode=disable",
            r"^database postgresql://127\.0\.0\.1:1/calls: .*refused|Connect call failed",
        ),
        ("postgresql://u:hidden-word@/x?host=/nonexistent", r"^database postgresql://.*: \S"),
        ("postgresql://u:hidden-word@[::1/x", "not a database URL"),
    ],
)
async def test_a_server_that_is_not_there_is_named_without_the_password(
    source: str, text: str
) -> None:
    with pytest.raises(StoreError, match=text) as caught:
        await open_database(source)
    assert "hidden-word" not in str(caught.value)


async def test_an_unknown_database_is_named(postgres: Any) -> None:
    source = postgres.new_database().replace("/test_", "/other_")
    with pytest.raises(StoreError, match=r'database "other_\w+" does not exist'):
        await open_database(source)


async def test_replicas_on_a_server_get_a_new_key_one_after_the_other(
    postgres: Any, tmp_path: Path
) -> None:
    old, new = "o" * 32, "n" * 32
    source = postgres.new_database()
    async with AsyncExitStack() as stack:

        async def opened(keys: str) -> Stores:
            environ = {"OFFLOADER_SECRET_KEY": keys}
            return await stack.enter_async_context(
                open_stores(source, environ=environ, state_dir=tmp_path)
            )

        first = await opened(old)
        await first.secrets.put_secret("a", "client", "https://site", "of the old key")
        await first.secrets.put_variables("a", {"API_KEY": "of the old key"})
        second = await opened(f"{new},{old}")
        assert await second.secrets.secret("a") == "of the old key"
        await second.secrets.put_secret("b", "client", "https://other", "of the new key")
        assert await first.secrets.secret("b") is None
        assert await first.keys.check() == second.cipher.keys[0].id
        first.cipher.use((new, old))
        assert await first.keys.check() == ""
        checks = (first.keys.renew(), second.keys.renew())
        assert sum([use.renewed for use in await asyncio.gather(*checks)]) == 2
        second.cipher.use((new,))
        assert await second.secrets.secret("a") == "of the old key"
        assert await second.secrets.variables("a") == {"API_KEY": "of the old key"}
        assert (await second.keys.uses()).unreadable == 0
