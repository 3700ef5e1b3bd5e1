from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from offloader.errors import StoreError
from offloader.models import JobState, Publication
from offloader.store import migrate
from offloader.store.database import Database, open_database
from offloader.store.schema import metadata
from offloader.store.sql import SqlJobStore
from offloader.store.sql_clients import SqlClientStore

FIRST = """
CREATE TABLE jobs (
    id VARCHAR(63) NOT NULL, client_id TEXT NOT NULL, type VARCHAR(32) NOT NULL, runner TEXT NOT NULL,
    max_duration_s INTEGER NOT NULL, input_data JSON NOT NULL, state VARCHAR(32) NOT NULL,
    stop_reason VARCHAR(32), created_at_ms BIGINT NOT NULL, stopped_at_ms BIGINT, exit_code INTEGER,
    detail TEXT NOT NULL, workload JSON, figures JSON NOT NULL, output_data JSON NOT NULL,
    unpublished BOOLEAN NOT NULL, {more} PRIMARY KEY (id)
);
CREATE INDEX jobs_by_state ON jobs (state, stopped_at_ms);
CREATE TABLE clients (id TEXT NOT NULL, key_hash TEXT NOT NULL, PRIMARY KEY (id));
INSERT INTO clients VALUES ('plugin', 'hash');
INSERT INTO jobs (id, client_id, type, runner, max_duration_s, input_data, state, created_at_ms,
    stopped_at_ms, detail, figures, output_data, unpublished {columns})
VALUES ('0123456789ab', 'plugin', 'recording', 'r', 60, '{{}}', 'finished', 1000, 2000, '', '{{}}', '{{}}',
    1 {values});
"""
"""A database as the service made it before there were migrations."""
SECOND = {
    "more": "post_call BOOLEAN DEFAULT 0 NOT NULL, outbox JSON,",
    "columns": ", post_call, outbox",
    "values": """, 1, '{"publication": "waiting", "attempts": 2, "next_at_ms": 5000, "workload": null,
        "detail": "d"}'""",
}


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def differences_of(database: Database) -> list[object]:
    async with database.read() as connection:
        return await connection.run_sync(differences)


@pytest.fixture(params=["sqlite", "postgres"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    return str(request.getfixturevalue("postgres").new_database())


async def test_the_steps_lead_to_the_tables_that_the_code_uses(source: str) -> None:
    database = await open_database(source)
    assert await differences_of(database) == []
    await database.aclose()


async def test_there_is_one_line_of_steps_and_its_end_is_known() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate._SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.HEAD]


@pytest.mark.parametrize("form", ["first", "second"])
async def test_a_database_from_before_the_steps_keeps_what_it_holds(
    tmp_path: Path, form: str
) -> None:
    path = tmp_path / "store.db"
    parts = SECOND if form == "second" else {"more": "", "columns": "", "values": ""}
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST.format(**parts))
    for _ in range(2):
        database = await open_database(str(path))
        assert await differences_of(database) == []
        job = await SqlJobStore(database).get("0123456789ab")
        assert job is not None
        assert (job.state, job.host, job.post_call) == (JobState.FINISHED, "", form == "second")
        assert job.created_at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1)
        if form == "second":
            assert job.outbox is not None
            assert (job.outbox.publication, job.outbox.attempts) == (Publication.WAITING, 2)
        assert await SqlClientStore(database).get("plugin") == "hash"
        await database.aclose()


async def test_replicas_that_start_at_once_do_not_disturb_each_other(source: str) -> None:
    databases = await asyncio.gather(*(open_database(source) for _ in range(6)))
    for number, database in enumerate(databases):
        await SqlClientStore(database).put(f"c{number}", "hash")
    assert len(await SqlClientStore(databases[0]).ids()) == 6
    for database in databases:
        await database.aclose()


@pytest.mark.documents("a-database-of-a-later-release")
async def test_a_database_of_a_later_release_is_refused_and_left_as_it_is(
    source: str, documented
) -> None:
    database = await open_database(source)
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.aclose()
    with pytest.raises(StoreError, match="step 9999") as refused:
        await open_database(source)
    documented("a-database-of-a-later-release", str(refused.value))


async def test_a_step_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "HEAD", "0002")
    path = str(tmp_path / "store.db")
    await (await open_database(path)).aclose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE facts (x INTEGER)")  # the last thing that 0003 makes
        connection.commit()
    monkeypatch.undo()
    with pytest.raises(StoreError, match="facts"):
        await open_database(path)
    with closing(sqlite3.connect(path)) as connection:
        step = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        columns = [row[1] for row in connection.execute("PRAGMA table_info(jobs)")]
    assert step == "0002"
    assert "owner" not in columns
