"""Opens the database of `store.data_source` and gives out transactions.

A path is an SQLite file (`sqlite_file.py`), `postgresql://` a server that several replicas share. Its schema
is brought to this release's first (`migrate.py`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from foundation.clock import Clock, SystemClock, epoch_ms
from foundation.logs import get_logger
from offloader.errors import StoreError
from offloader.store import postgresql, sqlite_file
from offloader.store.migrate import migrate, step_to_leave
from offloader.store.sqlite_anchor import Anchor
from offloader.store.sqlite_copy import copy_before_step, forget_old_copies
from offloader.store.sqlite_threads import SqliteThreads

_WRITE: Final = "offloader_write"
_SQLITE_SCHEMES: Final = ("sqlite", "sqlite+aiosqlite")
log = get_logger()
_REFUSALS: Final = (DBAPIError, PoolTimeout, OSError, TimeoutError)
"""What a database that cannot be used ends in; a lost connection to a server is a plain OSError."""


class Lock(IntEnum):
    """What only one transaction at a time may do, over all replicas: PostgreSQL's advisory locks."""

    MIGRATE = 4545_0001
    ADMIT = 4545_0002
    LOGIN = 4545_0003
    KEYS = 4545_0005
    DELIVER = 4545_0006


class Database:
    """One engine. Made by `open_database`; `aclose` is idempotent."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        shown: str,
        clock: Clock | None,
        file: Path | None = None,
        threads: SqliteThreads | None = None,
    ) -> None:
        self._engine = engine
        self._threads = threads
        self._shown = shown
        self._file = file
        self._clock = clock if clock is not None or self.shared else SystemClock()
        self._begins_anew = False
        self._anchor: Anchor | None = None
        self._generation = 0
        """The anchor's, for which the pool's connections were made."""
        self._writer = asyncio.Lock()
        """One writer at a time in this process, so that SQLite's own busy wait is for other processes; of
        a server's transactions only those that need a lock anyway."""
        if not self.shared:
            event.listen(engine.sync_engine, "connect", sqlite_file.prepare_connection)
            event.listen(engine.sync_engine, "begin", _begin)

    @property
    def shared(self) -> bool:
        """Several replicas may use it."""
        return self._engine.dialect.name != "sqlite"

    @property
    def file(self) -> Path | None:
        """The embedded database's."""
        return self._file

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view. Raises StoreError for what the database refuses."""
        await self._see_to_file()
        try:
            async with self._engine.connect() as connection:
                yield connection
        except _REFUSALS as error:
            raise await self._error(error) from error

    @asynccontextmanager
    async def write(self, *, lock: Lock | None = None) -> AsyncIterator[AsyncConnection]:
        """A transaction; commits at the end, or does nothing at all.

        On SQLite the only one from its first statement on. On a server `lock` keeps out those of the same
        lock; others run beside it and lock the rows that they touch.
        """
        await self._see_to_file()
        turn = nullcontext() if self.shared and lock is None else self._writer
        try:
            async with turn:
                await self._renew_connections()  # while this one waited for its turn
                async with self._engine.connect() as plain:
                    connection = await plain.execution_options(**{_WRITE: True})
                    async with connection.begin():
                        if self.shared and lock is not None:
                            await connection.execute(
                                text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock.value}
                            )
                        yield connection
        except _REFUSALS as error:
            raise await self._error(error) from error

    async def now_ms(self, connection: AsyncConnection) -> int:
        """Epoch milliseconds: the server's own, since the clocks of replicas differ."""
        if self._clock is not None:
            return epoch_ms(self._clock.utc_now())
        seconds = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")
        return int((await connection.execute(seconds)).scalar_one())

    async def migrate(self) -> None:
        """Bring the schema to this release's; of an embedded database a copy is kept. Raises StoreError."""
        try:
            async with self.write(lock=Lock.MIGRATE) as connection:
                step = await connection.run_sync(step_to_leave)
                if step is not None and self._file is not None:
                    copy = await asyncio.to_thread(copy_before_step, self._file, step)
                    log.info("store.copied", step=step, copy=str(copy))
                await connection.run_sync(migrate, file=self._file)
            if self._file is not None:
                await asyncio.to_thread(forget_old_copies, self._file)
        except StoreError as error:
            if str(error).startswith("database "):
                raise
            raise StoreError(f"database {self._shown}: {error}") from error

    async def watch_file(self) -> None:
        """From now on, see to it that the embedded database's file stays in its place. Raises StoreError."""
        if self._file is not None:
            try:
                self._anchor = await asyncio.to_thread(Anchor, self._file)
            except (OSError, sqlite3.Error) as error:
                raise StoreError(f"database {self._shown}: {error}") from error
            self._generation = self._anchor.generation

    async def aclose(self) -> None:
        try:
            await self._see_to_file()
        except StoreError as error:
            log.error("store.lost", error=str(error))
        await self._engine.dispose()
        if self._threads is not None:
            await self._threads.ended()
        await self._let_go_of_file()

    async def _let_go_of_file(self) -> None:
        anchor, self._anchor = self._anchor, None
        if anchor is not None:
            await asyncio.to_thread(anchor.close)

    async def _see_to_file(self) -> None:
        """Whoever deletes the file, or puts another in its place, takes nothing of what the service knows."""
        anchor = None if self._begins_anew else self._anchor
        if anchor is None:
            return
        if not await asyncio.to_thread(anchor.in_place):
            try:
                async with self._writer:
                    await asyncio.to_thread(anchor.put_back)
                    await self._renew_connections()
            except (OSError, sqlite3.Error) as error:
                text = f"its file is gone and cannot be put back: {sqlite_file.explained(error)}"
                if sqlite_file.is_damage(error):
                    raise await self._error(error) from error
                raise StoreError(f"database {self._shown}: {text}") from error

    async def _renew_connections(self) -> None:
        """What is written through a connection to a file that has lost its name is lost with it."""
        if self._anchor is not None and self._generation != self._anchor.generation:
            await self._engine.dispose()
            self._generation = self._anchor.generation

    async def _error(self, error: Exception) -> StoreError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        assert cause is not None
        file = None if self._begins_anew else self._file
        if file and (sqlite_file.is_damage(cause) or sqlite_file.is_emptied(file)):
            await self._begin_anew(file)
        explained = (postgresql if self.shared else sqlite_file).explained(cause)
        return StoreError(f"database {self._shown}: {explained}")

    async def _begin_anew(self, file: Path) -> None:
        """The file broke under a running service: as at a start, keep it aside and go on with a new one."""
        self._begins_anew = True
        try:
            async with self._writer:
                await self._engine.dispose()
                await self._let_go_of_file()
                await asyncio.to_thread(sqlite_file.make_sound, file, in_use=True)
            await self.migrate()
            await self.watch_file()
        finally:
            self._begins_anew = False


async def open_database(data_source: str, *, clock: Clock | None = None) -> Database:
    """Open `data_source`: a path is an SQLite file, a directory gets one inside, a URL is that database.

    `clock`: for leases and expiry; None: a server's own, else the system's.

    Raises:
        StoreError: it cannot be opened; names it and the cause.
    """
    database = await _open(data_source, clock=clock)
    try:
        await database.migrate()
        await database.watch_file()
    except BaseException:
        await database.aclose()
        raise
    return database


def embedded_file(data_source: str) -> Path | None:
    """The file of an embedded database; None: it is on a server, or no database at all."""
    if "://" not in data_source:
        return sqlite_file.file_of(data_source)
    if data_source.split("://", 1)[0] in _SQLITE_SCHEMES:
        with suppress(ArgumentError, ValueError):
            path = make_url(data_source).database
            return sqlite_file.file_of(path) if path not in (None, "", ":memory:") else None
    return None


@asynccontextmanager
async def server_as_it_is(data_source: str) -> AsyncIterator[Database]:
    """A server's database, whatever is in it. Raises StoreError."""
    database = await _open(data_source, clock=None)
    try:
        yield database
    finally:
        await database.aclose()


async def _open(data_source: str, *, clock: Clock | None) -> Database:
    if (file := embedded_file(data_source)) is not None:
        return await _open_file(file, clock=clock)
    scheme = data_source.split("://", 1)[0]
    try:
        urlsplit(data_source)  # as the driver does, whose complaint would come later and unnamed
        url = make_url(data_source)
        if scheme not in postgresql.SCHEMES:
            raise StoreError(
                f"store.data_source: no driver for {scheme}:// here: should be a path or "
                "postgresql://user:password@host/database"
            )
        return Database(postgresql.create_engine(url), shown=postgresql.shown(url), clock=clock)
    except (ImportError, NoSuchModuleError, InvalidRequestError) as error:
        raise StoreError(f"store.data_source: no driver for {scheme}:// here: {error}") from error
    except (ArgumentError, ValueError) as error:
        raise StoreError("store.data_source: not a database URL") from error


async def _open_file(path: Path, *, clock: Clock | None) -> Database:
    await asyncio.to_thread(sqlite_file.make_sound, path)
    threads = SqliteThreads(path)
    url = URL.create("sqlite+aiosqlite", database=str(path))  # by its name SQLAlchemy knows a file
    engine = create_async_engine(url, async_creator=threads.connect)
    return Database(engine, shown=str(path), clock=clock, file=path, threads=threads)


def _begin(connection: Connection) -> None:
    """Take SQLite's write lock at the beginning: upgrading a read later could fail half-way."""
    writes: Any = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
