"""Looks a store over without changing it: is it whole, of which schema, and does the key here open it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Select, inspect, select, text
from sqlalchemy.exc import DBAPIError

from offloader.errors import StoreError
from offloader.store import migrate
from offloader.store.key_place import KeyPlace
from offloader.store.schema import job_secrets, job_variables, metadata
from offloader.store.sql_secrets import secret_context, variables_context
from offloader.store.sqlite_file import explained
from offloader.store.transfer import open_sqlite

_MOST: Final = 10
"""So many complaints of SQLite are enough."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found."""

    schema: str | None
    """The step; None: none is recorded."""
    release: str
    """That brought it there; empty: not recorded."""
    secrets: int
    """Tokens and other secrets that are stored."""
    unreadable: int
    """Of those, the ones that the keys here do not open."""
    problems: tuple[str, ...]
    """Each a sentence; none: all is well."""


def examine(connection: Connection, key: KeyPlace | None) -> Examined:
    """`key`: what should open the stored secrets; None: nothing is tried. Raises SQLAlchemy's errors."""
    problems = [*_sqlite_problems(connection)] if connection.dialect.name == "sqlite" else []
    step = migrate.step_of(connection)
    if step is None and migrate.step_to_leave(connection) is None:
        problems.append("it holds no tables of the job service")
    elif step is not None and step not in migrate.known_steps():
        problems.append(
            f"its schema is of a later release (step {step}, this one knows {migrate.HEAD})"
        )
    elif step == migrate.HEAD:
        problems += _schema_problems(connection)
    secrets, unreadable, why = _secrets(connection, key)
    if unreadable:
        problems.append(f"{unreadable} of {secrets} stored secrets cannot be opened: {why}")
    release = migrate.release_of(connection)
    return Examined(step, release, secrets, unreadable, tuple(problems))


def examine_file(path: Path, key: KeyPlace | None) -> Examined:
    """An embedded database, or a copy of one; see `examine`. Blocks.

    Raises:
        StoreError: it cannot be read at all.
    """
    try:
        with open_sqlite(path, read_only=True).connect() as connection:
            return examine(connection, key)
    except DBAPIError as error:
        raise StoreError(f"database {path}: {explained(error.orig or error)}") from error


def _sqlite_problems(connection: Connection) -> Iterator[str]:
    for (found,) in connection.execute(text(f"PRAGMA integrity_check({_MOST})")):
        if found != "ok":
            yield f"it is damaged: {found}"
    if wrong := connection.execute(text("PRAGMA foreign_key_check")).fetchall():
        yield f"{len(wrong)} rows name others that are not there"


def _schema_problems(connection: Connection) -> Iterator[str]:
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in present:
            yield f"table {table.name} is missing"
            continue
        columns = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                yield f"column {table.name}.{column.name} is missing"


def _secrets(connection: Connection, key: KeyPlace | None) -> tuple[int, int, str]:
    """How many there are, how many of them cannot be opened, and why."""
    cipher, why = None, "they were stored under another key"
    try:
        cipher = key.cipher() if key is not None else None
    except StoreError as error:
        why = str(error)
    present = set(inspect(connection).get_table_names())
    found: list[tuple[bytes, Sequence[str]]] = []
    if job_secrets.name in present:
        table = job_secrets.c
        query: Select[Any] = select(table.job_id, table.client_id, table.site_url, table.ciphertext)
        found += [(row.ciphertext, secret_context(row)) for row in connection.execute(query)]
    if job_variables.name in present:
        rows = connection.execute(select(job_variables.c.job_id, job_variables.c.ciphertext))
        found += [(row.ciphertext, variables_context(row.job_id)) for row in rows]
    if key is None:
        return len(found), 0, ""
    opened = sum(
        cipher is not None and cipher.decrypt(data, context=context) is not None
        for data, context in found
    )
    return len(found), len(found) - opened, why
