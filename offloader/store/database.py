"""Opens the database of `store.data_source` and gives out transactions.

SQLite by default: write-ahead log, every commit on disk, readable by its owner only. The schema is
created when it is missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from offloader.errors import StoreError
from offloader.store.schema import metadata

_FILE_NAME: Final = "offloader.db"
_WRITE: Final = "offloader_write"
_BUSY_TIMEOUT_MS: Final = 5000
_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # an admitted job survives a power cut; there are few writes
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
)


class Database:
    """One engine. Made by `open_database`; `aclose` is idempotent."""

    def __init__(self, url: str, *, shown: str) -> None:
        self._shown = shown
        self._engine = create_async_engine(url)
        self._writer = asyncio.Lock()
        """One writer at a time in this process, so that SQLite's own busy wait is for other processes."""
        event.listen(self._engine.sync_engine, "connect", _prepare_connection)
        event.listen(self._engine.sync_engine, "begin", _begin)

    async def create_schema(self) -> None:
        async with self.write() as connection:
            await connection.run_sync(metadata.create_all)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view. Raises StoreError for what the database refuses."""
        try:
            async with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise self._error(error) from error

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """The only writer, from its first statement on; commits at the end, or nothing at all."""
        try:
            async with self._writer, self._engine.connect() as plain:
                connection = await plain.execution_options(**{_WRITE: True})
                async with connection.begin():
                    yield connection
        except DBAPIError as error:
            raise self._error(error) from error

    async def aclose(self) -> None:
        await self._engine.dispose()

    def _error(self, error: DBAPIError) -> StoreError:
        return StoreError(f"database {self._shown}: {error.orig}")


async def open_database(data_source: str) -> Database:
    """Open `data_source`: a path is an SQLite file, a directory gets one inside, a URL is that database.

    Raises:
        StoreError: it cannot be opened; names it and the cause.
    """
    if "://" not in data_source:
        path = _sqlite_path(data_source)
        await asyncio.to_thread(_make_private_file, path)
        database = Database(f"sqlite+aiosqlite:///{path}", shown=str(path))
    else:
        database = _from_url(data_source)
    try:
        await database.create_schema()
    except BaseException:
        await database.aclose()
        raise
    return database


def _from_url(text: str) -> Database:
    try:
        url = make_url(text)
        if url.drivername == "sqlite":
            url = url.set(drivername="sqlite+aiosqlite")
        return Database(url.render_as_string(hide_password=False), shown=url.render_as_string())
    except (ImportError, NoSuchModuleError, InvalidRequestError) as error:
        scheme = text.split("://", 1)[0]
        raise StoreError(f"store.data_source: no driver for {scheme}:// here: {error}") from error
    except ArgumentError as error:
        raise StoreError("store.data_source: not a database URL") from error


def _sqlite_path(data_source: str) -> Path:
    path = Path(data_source).absolute()
    return path / _FILE_NAME if path.is_dir() or data_source.endswith("/") else path


def _make_private_file(path: Path) -> None:
    """SQLite gives its side files the mode of the database file, so that is set first."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"database {path}: {error.strerror}") from error


def _prepare_connection(connection: Any, _record: Any) -> None:
    if "sqlite" not in type(connection).__module__:
        return
    connection.isolation_level = None  # the driver shall not begin transactions of its own
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    """Take SQLite's write lock at the beginning: upgrading a read later could fail half-way."""
    if connection.dialect.name == "sqlite":
        writes = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
