"""No thread of the embedded database answers to an event loop that is gone."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from offloader.store.database import Database, open_database


def worker_threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if "_connection_worker_thread" in each.name}


async def begin_a_query_that_waits_for(
    release: threading.Event, database: Database
) -> asyncio.Task[None]:
    """A query in a thread that goes on when `release` is set."""
    running = threading.Event()

    def wait() -> int:
        running.set()
        release.wait(30)
        return 1

    async def query() -> None:
        async with database.read() as connection:
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await raw.create_function("wait", 0, wait)
            await connection.exec_driver_sql("SELECT wait()")

    task = asyncio.create_task(query())
    assert await asyncio.to_thread(running.wait, 10)
    return task


async def test_close_outwaits_a_query_that_was_cancelled_twice(tmp_path: Path) -> None:
    before = worker_threads()
    database = await open_database(str(tmp_path / "store.db"))
    release = threading.Event()
    task = await begin_a_query_that_waits_for(release, database)
    for _ in range(2):  # the second one ends the wait for a graceful close
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled()
    closing = asyncio.create_task(database.aclose())
    done, _ = await asyncio.wait([closing], timeout=0.2)
    release.set()
    await closing
    assert not done
    assert not worker_threads() - before


async def test_close_outwaits_a_connection_whose_opening_was_cancelled(tmp_path: Path) -> None:
    before = worker_threads()
    database = await open_database(str(tmp_path / "store.db"))

    async def read() -> None:
        async with database.read() as connection:
            await connection.exec_driver_sql("SELECT 1")

    for steps in range(60):  # wherever it stands then
        task = asyncio.create_task(read())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await database.aclose()
    assert not worker_threads() - before
