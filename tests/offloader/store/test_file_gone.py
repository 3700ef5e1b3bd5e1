"""The database's file is deleted, renamed or replaced under the running service: nothing of it is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from offloader.errors import StoreError
from offloader.models import Job, JobSpec, JobType
from offloader.store.database import open_database
from offloader.store.sql import SqlJobStore
from offloader.store.sql_clients import SqlClientStore


def job(number: int) -> Job:
    spec = JobSpec(JobType.RECORDING, "runner", 60, {"site_url": "https://h"})
    return Job(f"{number:012x}", "client", spec, datetime(2026, 1, 1, tzinfo=UTC))


def with_log(path: Path) -> list[Path]:
    return [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")]


def deleted(path: Path) -> None:
    path.unlink()


def deleted_with_its_log(path: Path) -> None:
    for file in with_log(path):
        file.unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def its_directory_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


def emptied_by_replacement(path: Path) -> None:
    path.unlink()
    path.touch()


LOSSES = [
    deleted,
    deleted_with_its_log,
    renamed,
    its_directory_deleted,
    emptied_by_replacement,
]


@pytest.mark.parametrize("lose", LOSSES)
async def test_the_file_is_put_back_with_all_that_was_in_it(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    path = tmp_path / "state" / "store.db"
    database = await open_database(str(path))
    jobs, clients = SqlJobStore(database), SqlClientStore(database)
    await clients.put("plugin", "hash")
    for number in range(50):  # part of it is still in the log only
        await jobs.reserve(job(number), admits=lambda *_: True)
    lose(path)
    with structlog.testing.capture_logs() as lines:
        assert await clients.get("plugin") == "hash"
        assert len(await jobs.live()) == 50
        await jobs.reserve(job(50), admits=lambda *_: True)
    (line,) = lines
    assert (line["event"], line["log_level"], line["put_back"]) == (
        *("store.file_gone", "error"),
        True,
    )
    assert line["file"] == str(path)
    await database.aclose()
    assert os.stat(path).st_mode & 0o777 == 0o600
    again = await open_database(str(path))
    assert len(await SqlJobStore(again).live()) == 51
    await again.aclose()
    assert not list(path.parent.glob("*.put-back"))


async def test_what_lies_in_its_place_is_kept_aside(tmp_path: Path) -> None:
    path, other = tmp_path / "store.db", tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as stranger:
        stranger.execute("CREATE TABLE theirs (x)")
    database = await open_database(str(path))
    await SqlClientStore(database).put("plugin", "hash")
    os.replace(other, path)
    with structlog.testing.capture_logs() as lines:
        assert await SqlClientStore(database).get("plugin") == "hash"
    await database.aclose()
    found = Path(lines[0]["found"])
    assert found.name.startswith("store.db.found-")
    with closing(sqlite3.connect(found)) as stranger:
        assert stranger.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_writers_that_were_under_way_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    database = await open_database(str(path))
    clients = SqlClientStore(database)

    confirmed = set()

    async def put(number: int) -> None:
        with suppress(StoreError):  # of a file that was deleted between a look and a connection
            await clients.put(f"c{number}", "hash")
            confirmed.add(f"c{number}")
        if number % 10 == 0:
            path.unlink(missing_ok=True)

    await asyncio.gather(*(put(number) for number in range(60)))
    await database.aclose()
    again = await open_database(str(path))
    assert len(confirmed) > 30
    assert confirmed <= set(await SqlClientStore(again).ids())
    await again.aclose()


async def test_what_cannot_be_put_back_is_an_error_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state" / "store.db"
    database = await open_database(str(path))
    clients = SqlClientStore(database)
    await clients.put("plugin", "hash")
    its_directory_deleted(path)
    path.parent.touch()  # a file, where its directory has to be
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store\.db: its file is gone and cannot be put back"):
            await clients.get("plugin")
    path.parent.unlink()
    assert await clients.get("plugin") == "hash"
    await database.aclose()


async def test_a_service_goes_on_with_its_jobs_and_keeps_unpublished_results(
    start: Any, tmp_path: Path
) -> None:
    running = await start()
    live = await running.create_job(call="one")
    ended = await running.create_job(call="two")
    await running.check()
    running.backend.exit(ended, 1, unpublished=True)
    await running.check()
    for file in with_log(tmp_path / "store.db"):
        file.unlink()
    ready = await running.http.get("/readyz")
    assert ready.status_code == 200, ready.text
    await running.check()
    assert (tmp_path / "store.db").exists()
    assert (await running.get_job(live))["id"] == live
    headers = running.basic("plugin")
    details = (await running.http.get(f"/jobs/{ended}?details=1", headers=headers)).json()
    assert (details["unpublished"], details["state"]) == (True, "finished")
    assert running.backend.removed == []
    (tmp_path / "store.db").unlink()
    (tmp_path / "store.db.put-back").mkdir()  # in the way
    refused = await running.http.get("/readyz")
    assert refused.status_code == 503
    assert "its file is gone" in refused.json()["error"]
    assert (await running.http.get("/healthz")).status_code == 200
    (tmp_path / "store.db.put-back").rmdir()
    ready = await running.http.get("/readyz")
    assert ready.status_code == 200, ready.text
