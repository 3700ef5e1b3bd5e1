"""The queue on a server that replicas share."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from foundation.clock import SystemClock
from offloader.store.stores import open_stores
from tests.offloader.webhooks.conftest import Site

A, B = "a" * 12, "b" * 12


@pytest.mark.slow
async def test_one_of_several_replicas_has_the_turn_and_all_add_to_one_queue(
    postgres: Any, tmp_path: Path
) -> None:
    source = postgres.new_database()
    async with AsyncExitStack() as stack:
        sites = []
        for _ in range(3):
            opened = open_stores(source, environ={}, state_dir=tmp_path)
            stores = await stack.enter_async_context(opened)
            sites.append(Site(stores, SystemClock(), ["one"]))  # type: ignore[arg-type]  # not moved
        owners = [str(number) for number, _ in enumerate(sites)]
        asked = [s.queue.take_turn(o, ttl_s=60) for s, o in zip(sites, owners, strict=True)]
        assert sorted(await asyncio.gather(*asked)) == [False, False, True]
        await sites[0].add(A, states=2)
        await sites[1].add(B)
        first, other = await sites[2].queue.due("one", limit=8)
        assert (first.job_id, other.job_id) == (A, B)
        await sites[2].queue.remove(first.number)
        await sites[1].queue.postpone(other.number, wait_s=60)
        [second] = await sites[0].queue.due("one", limit=8)
        assert '"state":"starting"' in second.body
        assert (await sites[0].queue.waiting("one"))[0] == 3
        assert await sites[0].queue.sweep("one", older_than_s=3600, most=1) == (0, 2)
        for owner in owners:
            await sites[0].queue.end_turn(owner)
        assert await sites[0].queue.take_turn("next", ttl_s=60)
