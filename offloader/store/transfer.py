"""Carries what one database holds over to another, of the same or another kind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    inspect,
    select,
    text,
)
from sqlalchemy.pool import NullPool

from offloader.store.migrate import bring_to
from offloader.store.schema import metadata
from offloader.store.sqlite_file import BUSY_TIMEOUT_MS

_ROWS_AT_ONCE: Final = 500
STEP_TABLE: Final = "alembic_version"


def open_sqlite(path: Path, *, read_only: bool = False) -> Engine:
    """An engine for a file as it is; makes one unless `read_only`."""
    name = f"file:{quote(str(path.absolute()))}?mode={'ro' if read_only else 'rwc'}"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(name, uri=True, timeout=BUSY_TIMEOUT_MS / 1000)

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def carry_over(source: Connection, target: Connection, *, step: str) -> int:
    """Make the tables of `step` in `target`, which has none, and fill them; how many rows.

    `source` is at that step. Both are within a transaction of the caller, that of `source` with one view of
    everything.
    """
    bring_to(target, step)
    count = 0
    theirs, ours = _tables(source), _tables(target)
    for name, table in ours.items():
        if name not in theirs:
            continue
        shared = [column.name for column in table.columns if column.name in theirs[name].columns]
        for rows in _rows(source, theirs[name], shared):
            target.execute(table.insert(), rows)
            count += len(rows)
        _go_on_counting(target, table)
    return count


def set_aside(connection: Connection, *, now: datetime | None = None) -> str:
    """Move what a PostgreSQL database holds of ours into a schema of its own; its name, or empty: there is
    nothing."""
    present = set(inspect(connection).get_table_names())
    ours = sorted(present & {*metadata.tables, STEP_TABLE})
    if not ours:
        return ""
    name = (now or datetime.now(UTC)).strftime("replaced_%Y%m%dt%H%M%Sz")
    connection.execute(text(f'CREATE SCHEMA "{name}"'))
    for table in ours:
        connection.execute(text(f'ALTER TABLE "{table}" SET SCHEMA "{name}"'))
    return name


def _tables(connection: Connection) -> dict[str, Table]:
    """Those that are ours in the default schema, as they are there."""
    found = MetaData()
    found.reflect(bind=connection)
    tables = {name: table for name, table in found.tables.items() if name != STEP_TABLE}
    for table in tables.values():
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type = JSON(none_as_null=True)  # SQL's NULL stays one
    return tables


def _rows(
    connection: Connection, table: Table, columns: list[str]
) -> Iterator[list[dict[str, Any]]]:
    chosen: list[Column[Any]] = [table.columns[name] for name in columns]
    for rows in connection.execute(select(*chosen)).mappings().partitions(_ROWS_AT_ONCE):
        yield [dict(row) for row in rows]


def _go_on_counting(connection: Connection, table: Table) -> None:
    """PostgreSQL numbers rows by a sequence that knows nothing of rows that bring their numbers."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        if isinstance(column.type, Integer) and column.server_default is not None:
            connection.execute(
                text(  # names of our own tables and columns
                    "SELECT setval(pg_get_serial_sequence(:table, :column), "
                    f'coalesce((SELECT max("{column.name}") FROM "{table.name}"), 0) + 1, false)'  # nosec B608
                ),
                {"table": table.name, "column": column.name},
            )
