"""What becomes of an SQLite file that is damaged, truncated, locked away or without room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text

from offloader.errors import StoreError
from offloader.models import Job, JobSpec, JobType
from offloader.store.database import Database, open_database
from offloader.store.sql import SqlJobStore
from offloader.store.sql_clients import SqlClientStore
from offloader.store.sqlite_file import key_file_of


def job(number: int) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, {"site_url": "x" * 500})
    return Job(f"{number:012x}", "client", spec, datetime(2026, 1, 1, tzinfo=UTC))


async def filled(path: Path, *, jobs: int = 60) -> None:
    database = await open_database(str(path))
    for number in range(jobs):
        await SqlJobStore(database).reserve(job(number), admits=lambda *_: True)
    await SqlClientStore(database).put("plugin", "hash")
    await database.aclose()


def kept_aside(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.damaged-*"))


async def fill_up(database: Database) -> None:
    """Write until the database refuses."""
    for number in range(1000, 1200):
        await SqlClientStore(database).put(f"c{number}", "hash")
        await SqlJobStore(database).reserve(job(number), admits=lambda *_: True)


async def works(database: Database) -> bool:
    await SqlClientStore(database).put("new", "hash")
    return await SqlClientStore(database).get("new") == "hash"


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


def _cut_at_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _cut_in_the_header(path: Path) -> None:
    os.truncate(path, 50)


def _overwritten_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


@pytest.mark.parametrize("damage", [_garbage, _cut_at_half, _cut_in_the_header, _overwritten_page])
async def test_a_damaged_file_is_kept_aside_and_the_service_goes_on(tmp_path: Path, damage) -> None:
    path = tmp_path / "store.db"
    await filled(path)
    damage(path)
    left = path.read_bytes()
    with structlog.testing.capture_logs() as lines:
        database = await open_database(str(path))
    assert await works(database)
    assert await SqlClientStore(database).get("plugin") is None, "it registers again"
    await database.aclose()
    (line,) = [line for line in lines if line["event"] == "store.damaged"]
    assert line["log_level"] == "error"
    assert line["file"] == str(path)
    kept = kept_aside(tmp_path)
    (damaged,) = [path for path in kept if not path.name.endswith("-wal")]
    assert str(damaged) == line["kept_as"]
    assert damaged.read_bytes() == left
    with structlog.testing.capture_logs() as lines:
        await (await open_database(str(path))).aclose()
    assert lines == []


async def test_two_damages_within_a_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for _ in range(2):
        _garbage(path)
        await (await open_database(str(path))).aclose()
    assert len(kept_aside(tmp_path)) == 2


async def test_an_empty_file_is_a_loss_only_where_there_was_a_database(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch()
    with structlog.testing.capture_logs() as lines:
        await (await open_database(str(path))).aclose()
    assert lines == []
    key_file_of(path).touch()
    os.truncate(path, 0)
    with structlog.testing.capture_logs() as lines:
        await (await open_database(str(path))).aclose()
    assert [line["damage"] for line in lines] == ["it is empty"]


async def test_a_log_that_a_killed_service_left_is_not_lost(tmp_path: Path) -> None:
    path, killed = tmp_path / "store.db", tmp_path / "killed" / "store.db"
    database = await open_database(str(path))
    await SqlJobStore(database).reserve(job(1), admits=lambda *_: True)
    assert path.with_name("store.db-wal").stat().st_size > 0
    shutil.copytree(tmp_path, killed.parent, ignore=shutil.ignore_patterns("*-shm", "killed"))
    await database.aclose()
    database = await open_database(str(killed))
    assert await SqlJobStore(database).get(job(1).id) == job(1)
    await database.aclose()


async def test_a_log_without_its_database_is_never_applied_to_a_new_one(tmp_path: Path) -> None:
    path, alone = tmp_path / "store.db", tmp_path / "alone" / "store.db"
    database = await open_database(str(path))
    await SqlJobStore(database).reserve(job(1), admits=lambda *_: True)
    alone.parent.mkdir()
    shutil.copy(path.with_name("store.db-wal"), alone.with_name("store.db-wal"))
    await database.aclose()
    database = await open_database(str(alone))
    assert await works(database)
    assert await SqlJobStore(database).get(job(1).id) is None
    await database.aclose()


@pytest.mark.parametrize("cut_at", [0, 50, 8192])
async def test_a_file_that_is_truncated_under_a_running_service_is_replaced(
    tmp_path: Path, cut_at: int
) -> None:
    path = tmp_path / "store.db"
    await filled(path)
    database = await open_database(str(path))
    clients = SqlClientStore(database)
    assert await clients.get("plugin") == "hash"
    os.truncate(path, cut_at)
    with structlog.testing.capture_logs() as lines:
        with pytest.raises(StoreError, match=r"store\.db"):
            await fill_up(database)
        assert await works(database)
    await database.aclose()
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["store.damaged"]
    assert kept_aside(tmp_path)


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A directory while this process has no rights beyond its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        if os.geteuid() == 0:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            Path(name).chmod(0o700)
            os.seteuid(os.getuid())


@pytest.mark.documents("the-databases-directory-cannot-be-written")
async def test_a_directory_that_cannot_be_written_is_named(nobody: Path, documented: Any) -> None:
    await filled(nobody / "store.db", jobs=1)
    os.chmod(nobody, 0o500)
    with pytest.raises(StoreError) as unusable:
        await open_database(str(nobody / "store.db"))
    documented("the-databases-directory-cannot-be-written", str(unusable.value))
    with pytest.raises(StoreError, match=r"other\.db: Permission denied"):
        await open_database(str(nobody / "other.db"))
    os.chmod(nobody, 0o700)
    database = await open_database(str(nobody / "store.db"))
    assert await SqlClientStore(database).get("plugin") == "hash", "it was not moved aside"
    await database.aclose()


@pytest.mark.documents("the-databases-disk-is-full")
async def test_a_full_disk_is_an_error_that_ends_with_the_fullness(
    tmp_path: Path, documented
) -> None:
    database = await open_database(str(tmp_path / "store.db"))
    store = SqlJobStore(database)

    async def pages(limit: int) -> None:
        for _ in range(5):  # the limit is one connection's, and there may be several
            async with database.read() as connection:
                await connection.execute(text(f"PRAGMA max_page_count={limit}"))

    async with database.read() as connection:
        present = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
    await pages(present)
    with pytest.raises(StoreError) as full:
        await fill_up(database)
    documented("the-databases-disk-is-full", str(full.value))
    jobs, clients = len(await store.live()), len(await SqlClientStore(database).ids())
    assert jobs <= clients <= jobs + 1, "reading goes on, and nothing is half-way there"
    await pages(1 << 20)
    await store.reserve(job(999), admits=lambda *_: True)
    await database.aclose()
    assert kept_aside(tmp_path) == []
