"""Makes a backup of the store while it is in use, and restores one while it is not."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection, text

from offloader.errors import StoreError
from offloader.store import backup_file, migrate
from offloader.store.backup_file import DATABASE_NAME, KEY_NAME, Manifest
from offloader.store.database import Lock, embedded_file, server_as_it_is
from offloader.store.examine import Examined, examine_file
from offloader.store.key_place import KeyPlace
from offloader.store.postgresql import APPLICATION
from offloader.store.sqlite_copy import copy_to, to_disk
from offloader.store.sqlite_file import explained, is_damage, move_aside
from offloader.store.transfer import carry_over, open_sqlite, set_aside

_LOCK_WAIT_S: Final = 1.0
_STOP_FIRST: Final = "stop the job service (all replicas), and try again"


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done."""

    schema: str
    """Step of what is there now; the next start of the service goes on from there."""
    replaced: str
    """Where what was there before is kept; empty: there was nothing."""
    key: str
    """`restored`, `kept` (the one here stays), `absent` (there is none in the backup)."""


async def take(data_source: str, target: Path, *, key: KeyPlace | None) -> Manifest:
    """Write a backup to the new file `target`. The service may run.

    `key`: its file goes into the backup as well; None: it does not.

    Raises:
        StoreError: the store cannot be read or the file not written; names it and the cause.
    """
    try:
        if await asyncio.to_thread(target.exists):
            raise StoreError(f"{target}: exists already: name a new file")
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as directory:
            copy = Path(directory) / DATABASE_NAME
            file = embedded_file(data_source)
            if file is not None:
                await asyncio.to_thread(_copy_file, file, copy)
            else:
                await _copy_server(data_source, copy)
            examined = await asyncio.to_thread(examine_file, copy, None)
            members = {DATABASE_NAME: copy}
            if key is not None:
                members[KEY_NAME] = key.file
            return await asyncio.to_thread(
                backup_file.write, target, schema=examined.schema or "", members=members
            )
    except OSError as error:
        raise StoreError(f"{error.filename or target}: {error.strerror}") from error


async def restore(data_source: str, source: Path, *, key: KeyPlace) -> Restored:
    """Put what the backup `source` holds in the place of the store, which is kept aside.

    A copy from before a migration is taken, too. Nothing is changed unless all of it can be.

    Raises:
        StoreError: the service runs, the backup is damaged or of a later release, or something cannot be
            read or written; names it and the cause.
    """
    file = embedded_file(data_source)
    try:
        if file is not None:
            await asyncio.to_thread(file.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        place = file.parent if file is not None else None
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=place) as directory:
            unpacked = Path(directory)
            await asyncio.to_thread(backup_file.unpack, source, unpacked)
            step = await asyncio.to_thread(_usable_step, source, unpacked / DATABASE_NAME)
            if file is not None:
                replaced = await asyncio.to_thread(_put_file, file, unpacked / DATABASE_NAME)
            else:
                replaced = await _put_server(data_source, unpacked / DATABASE_NAME, step=step)
            kept = await asyncio.to_thread(_put_key, key, unpacked / KEY_NAME, beside=file)
            return Restored(step, replaced, kept)
    except OSError as error:
        raise StoreError(f"{error.filename or source}: {error.strerror}") from error


def examine_backup(source: Path, *, key: KeyPlace) -> Examined:
    """Look a backup over, with the key in it or else that of here. Blocks.

    Raises:
        StoreError: it is none, damaged, or cannot be read.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="offloader-check-") as directory:
            unpacked = Path(directory)
            backup_file.unpack(source, unpacked)
            inside = unpacked / KEY_NAME
            its_key = KeyPlace({}, inside) if inside.exists() else key
            return examine_file(unpacked / DATABASE_NAME, its_key)
    except OSError as error:
        raise StoreError(f"{error.filename or source}: {error.strerror}") from error


def _copy_file(file: Path, copy: Path) -> None:
    if not file.exists():
        raise StoreError(f"database {file}: is not there")
    try:
        copy_to(file, copy)
    except sqlite3.Error as error:
        raise StoreError(f"database {file}: {explained(error)}") from error


async def _copy_server(data_source: str, copy: Path) -> None:
    def carry(server: Connection) -> None:
        step = migrate.step_of(server)
        if step not in migrate.known_steps():
            raise StoreError(
                f"the database holds schema step {step}, this release knows {migrate.HEAD}: make the backup "
                "by the release that uses it"
            )
        with open_sqlite(copy).begin() as target:
            carry_over(server, target, step=step)

    async with server_as_it_is(data_source) as database, database.read() as connection:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        await connection.run_sync(carry)


def _usable_step(source: Path, unpacked: Path) -> str:
    """The step of what is to be restored. Raises StoreError."""
    found = examine_file(unpacked, None)
    if found.schema is not None and found.schema not in migrate.known_steps():
        by = found.release or "a later release"
        raise StoreError(
            f"{source}: its schema is of {by} (step {found.schema}, this release knows {migrate.HEAD}): "
            "restore it by that release, or an older backup by this one"
        )
    if found.problems:
        raise StoreError(f"{source}: cannot be restored: {found.problems[0]}")
    return found.schema or ""


def _put_file(file: Path, new: Path) -> str:
    lock = _locked(file) if file.exists() else None
    owner = (file if file.exists() else file.parent).stat()
    try:
        if os.geteuid() == 0:  # the service goes on with its own file
            os.chown(new, owner.st_uid, owner.st_gid)
        to_disk(new)
        replaced = str(move_aside(file, why="replaced")) if file.exists() else ""
        os.replace(new, file)
        to_disk(file.parent)
        return replaced
    finally:
        if lock is not None:
            lock.close()


def _locked(file: Path) -> sqlite3.Connection | None:
    """Keeps every other process from the file; None: it is so damaged that nobody uses it.

    Whoever has it open keeps SQLite from leaving its write-ahead log; so it is known that nobody has.
    """
    connection = sqlite3.connect(
        f"file:{quote(str(file))}?mode=rw", uri=True, timeout=_LOCK_WAIT_S, isolation_level=None
    )
    try:
        (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
        if mode == "wal":
            raise StoreError(f"database {file}: is in use: {_STOP_FIRST}")
        connection.execute("BEGIN EXCLUSIVE")
        return connection
    except sqlite3.Error as error:
        connection.close()
        if is_damage(error):
            return None
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(f"database {file}: is in use: {_STOP_FIRST}") from error
        raise StoreError(f"database {file}: {explained(error)}") from error
    except BaseException:
        connection.close()
        raise


async def _put_server(data_source: str, new: Path, *, step: str) -> str:
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = :name AND pid <> pg_backend_pid()"
    )

    def put(server: Connection) -> str:
        if server.execute(others, {"name": APPLICATION}).scalar():
            raise StoreError(f"the database is in use: {_STOP_FIRST}")
        replaced = set_aside(server)
        with open_sqlite(new, read_only=True).connect() as source:
            carry_over(source, server, step=step)
        return replaced and f"schema {replaced}"

    async with (
        server_as_it_is(data_source) as database,
        database.write(lock=Lock.MIGRATE) as connection,
    ):
        return await connection.run_sync(put)


def _put_key(key: KeyPlace, new: Path, *, beside: Path | None) -> str:
    if not new.exists():
        return "absent"
    if key.in_environment:
        return "kept"
    if key.file.exists():
        if key.file.read_bytes() == new.read_bytes():
            return "kept"
        move_aside(key.file, why="replaced")
    key.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(key.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        if os.geteuid() == 0:
            owner = (beside or key.file.parent).stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        target.write(new.read_bytes())
    to_disk(key.file)
    return "restored"
