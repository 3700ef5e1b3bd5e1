from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event, text

from offloader.errors import CapacityReached, StoreError
from offloader.models import Job, JobSpec, JobType
from offloader.store.database import open_database
from offloader.store.sql import SqlJobStore


def job(number: int) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, {})
    return Job(f"{number:012x}", "client", spec, datetime(2026, 1, 1, tzinfo=UTC))


async def test_the_database_and_its_side_files_are_the_owners_only(tmp_path: Path) -> None:
    database = await open_database(str(tmp_path / "new" / "store.db"))
    try:
        files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    finally:
        await database.aclose()
    assert files.pop("store.db") == 0o600
    assert set(files) == {"store.db-wal", "store.db-shm"}
    assert set(files.values()) == {0o600}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


async def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch(mode=0o644)
    await (await open_database(str(path))).aclose()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("existing", [True, False])
async def test_a_directory_gets_the_database_inside(tmp_path: Path, existing: bool) -> None:
    directory = tmp_path / "db"
    if existing:
        directory.mkdir()
    await (await open_database(f"{directory}{'' if existing else '/'}")).aclose()
    assert (directory / "offloader.db").is_file()


async def test_an_sqlite_url_is_that_file(tmp_path: Path) -> None:
    await (await open_database(f"sqlite:///{tmp_path}/by-url.db")).aclose()
    assert (tmp_path / "by-url.db").is_file()


async def test_jobs_survive_a_restart(tmp_path: Path) -> None:
    for attempt in (1, 2):
        database = await open_database(str(tmp_path / "store.db"))
        store = SqlJobStore(database)
        if attempt == 1:
            await store.reserve(job(1), admits=lambda *_: True)
        assert await store.get(job(1).id) == job(1)
        await database.aclose()


async def test_two_processes_on_one_file_do_not_overshoot(tmp_path: Path) -> None:
    databases = [await open_database(str(tmp_path / "store.db")) for _ in range(2)]
    stores = [SqlJobStore(database) for database in databases]

    async def attempt(number: int) -> bool:
        try:
            await stores[number % 2].reserve(job(number), admits=lambda live, _: len(live) < 5)
        except CapacityReached:
            return False
        return True

    admitted = await asyncio.gather(*(attempt(number) for number in range(40)))
    for database in databases:
        await database.aclose()
    assert sum(admitted) == 5


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("/proc/nowhere/store.db", "database /proc/nowhere/store.db: "),
        ("nonsense://x", "no driver for nonsense://"),
        ("://", "not a database URL"),
    ],
)
async def test_a_source_that_cannot_be_opened_is_named(source: str, text: str) -> None:
    with pytest.raises(StoreError, match=text):
        await open_database(source)


async def test_what_every_round_looks_for_is_found_by_an_index(tmp_path: Path) -> None:
    database = await open_database(str(tmp_path / "store.db"))
    statements: list[str] = []
    try:
        async with database.read() as connection:

            @event.listens_for(connection.sync_connection.engine, "before_cursor_execute")
            def note(_c, _cursor, statement, *_: object) -> None:
                statements.append(statement)

        await SqlJobStore(database).retranscribing()
        (statement,) = [each for each in statements if "FROM jobs" in each]
        async with database.read() as connection:
            plan = (await connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"))).all()
    finally:
        await database.aclose()
    assert "jobs_retranscribing" in plan[0].detail
