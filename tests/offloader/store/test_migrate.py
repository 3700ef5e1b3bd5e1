from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from offloader.errors import StoreError
from offloader.models import JobState, Publication
from offloader.store import migrate, sqlite_copy
from offloader.store.database import Database, open_database
from offloader.store.schema import metadata
from offloader.store.sql import SqlJobStore
from offloader.store.sql_clients import SqlClientStore
from offloader.store.stores import open_stores

STORES = Path(__file__).parents[2] / "fixtures" / "store"
_WRITTEN_BY_0006 = """
INSERT INTO jobs (id, client_id, type, runner, max_duration_s, input_data, state, stop_reason, created_at_ms,
    stopped_at_ms, exit_code, detail, workload, figures, output_data, unpublished, post_call, outbox, host,
    retranscribing, retranscription, registration, wish_hash, owner, lease_until_ms, revision)
VALUES ('q1w2e3r4t5z8', 'plugin', 'recording', 'r', 60, '{}', 'pending', NULL, 1000, NULL, NULL, '', 'null',
    '{}', '{}', 0, 0, 'null', 'host-2', 0, 'null', '', '', 'other', 2000, 1)
"""
"""As that release admits a job."""
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
        release = {"release": "v9.1.0", "name": migrate.RELEASE_FACT}
        await connection.execute(text("UPDATE facts SET value=:release WHERE name=:name"), release)
    await database.aclose()
    with pytest.raises(StoreError, match=r"step 9999, made by release v9\.1\.0") as refused:
        await open_database(source)
    documented("a-database-of-a-later-release", str(refused.value))


@pytest.mark.documents("a-database-of-a-later-release-with-a-copy-from-before")
async def test_the_way_back_is_the_copy_that_this_release_can_open(
    tmp_path: Path, documented
) -> None:
    path = tmp_path / "store.db"
    await (await open_database(str(path))).aclose()
    sqlite_copy.copy_before_step(path, migrate.HEAD)  # as the later release does
    sqlite_copy.copy_before_step(path, "9998")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(StoreError, match=f"store.db.schema-{migrate.HEAD}$") as refused:
        await open_database(str(path))
    documented("a-database-of-a-later-release-with-a-copy-from-before", str(refused.value))


async def test_a_store_of_the_release_before_goes_on_and_a_copy_of_it_is_kept(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((STORES / "schema_0006.sql").read_text())
    environ = {"OFFLOADER_SECRET_KEY": "the-key-of-the-frozen-store-0006-x"}
    async with open_stores(str(path), environ=environ, state_dir=tmp_path) as stores:
        assert await differences_of(stores.database) == []
        running, waiting = [await stores.jobs.get(f"q1w2e3r4t5z{n}") for n in (6, 7)]
        assert running is not None
        assert waiting is not None
        assert (running.state, running.host) == (JobState.RUNNING, "host-1")
        assert waiting.outbox is not None
        assert waiting.outbox.attempts == 2
        assert await stores.secrets.secret(waiting.id) == "t" * 26
        # A replica of the release before runs on beside this one, and names the columns that it knows.
        async with stores.database.write() as connection:
            await connection.execute(text(_WRITTEN_BY_0006))
        taken = await stores.jobs.get("q1w2e3r4t5z8")
        assert taken is not None
        assert taken.state is JobState.PENDING
    copy = tmp_path / "store.db.schema-0006"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0006",)
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (2,)


async def test_of_the_copies_the_newest_two_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await open_database(str(path))).aclose()
    for step in ("0001", "0002", "0003"):
        sqlite_copy.copy_before_step(path, step)
    assert [step for step, _ in sqlite_copy.copies_before_steps(path)] == ["0002", "0003"]


async def test_a_copy_that_nobody_goes_back_to_goes_with_a_start(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await open_database(str(path))).aclose()
    old, new = (sqlite_copy.copy_before_step(path, step) for step in ("0001", "0002"))
    os.utime(old, (0, 0))
    await (await open_database(str(path))).aclose()
    assert [copy for _, copy in sqlite_copy.copies_before_steps(path)] == [new]


@pytest.mark.documents("no-copy-before-a-change-of-the-schema")
async def test_without_a_copy_nothing_is_changed(tmp_path: Path, documented) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((STORES / "schema_0006.sql").read_text())
    (tmp_path / "store.db.schema-0006").mkdir()  # in its place
    with pytest.raises(StoreError) as refused:
        await open_database(str(path))
    documented("no-copy-before-a-change-of-the-schema", str(refused.value))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0006",)


def test_each_step_leaves_to_the_release_before_what_it_knows() -> None:
    """It reads and writes by the names of columns: none may go or change, and a new one fills itself."""
    steps = sorted(migrate.known_steps())
    with create_engine("sqlite://").begin() as connection:
        migrate.bring_to(connection, steps[0])
        before = _columns(connection)
        for step in steps[1:]:
            migrate.bring_to(connection, step)
            after = _columns(connection)
            for key, column in before.items():
                assert after.get(key) == column, f"step {step} changes {key}"
            tables = {table for table, _ in before}
            for (table, name), (_, nullable, default, primary) in after.items():
                if table in tables and (table, name) not in before:
                    assert nullable or default is not None, f"step {step}: {table}.{name}"
                    assert not primary, f"step {step}: {table}.{name}"
            before = after


def _columns(connection: Connection) -> dict[tuple[str, str], tuple[str, bool, object, int]]:
    inspector = inspect(connection)
    return {
        (table, column["name"]): (
            str(column["type"]),
            column["nullable"],
            column["default"],
            column["primary_key"],
        )
        for table in inspector.get_table_names()
        for column in inspector.get_columns(table)
    }


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
