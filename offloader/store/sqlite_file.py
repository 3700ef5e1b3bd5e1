"""The embedded database: one SQLite file, its owner's only, every commit on disk, looked over at each start.

A file that is damaged is moved aside and kept; the service goes on with an empty one, into which clients
register again. What cannot be opened for another reason (no permission, no space) is an error and stays as
it is.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from foundation.logs import get_logger
from offloader.errors import StoreError

FILE_NAME: Final = "offloader.db"
SIDE_FILES: Final = ("-wal", "-shm", "-journal")
BUSY_TIMEOUT_MS: Final = 5000
_BUSY_PAUSE_S: Final = 0.01
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRAGMAS: Final = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # an admitted job survives a power cut; there are few writes
    "PRAGMA foreign_keys=ON",
)
_HINTS: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_READONLY: "it cannot be written by this user",
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
    sqlite3.SQLITE_IOERR: "its disk cannot be read or written",
}

log = get_logger()


def file_of(data_source: str) -> Path:
    """A directory gets the database inside."""
    path = Path(data_source).absolute()
    return path / FILE_NAME if os.path.isdir(path) or data_source.endswith("/") else path


def key_file_of(path: Path) -> Path:
    """Where the key to the secrets of this database lies, when the environment gives none."""
    return path.with_name(path.name + ".key")


def make_sound(path: Path, *, in_use: bool = False) -> None:
    """Leave a sound database or an empty file of mode 0600 at `path`. Blocks.

    `in_use`: it is open here and has tables, so that an empty file is a loss.

    Raises:
        StoreError: names the file and the cause.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists():
            path.chmod(0o600)
            if (damage := _damage_of(path, in_use=in_use)) is not None:
                kept_as = move_aside(path)
                log.error("store.damaged", file=str(path), damage=damage, kept_as=str(kept_as))
        # SQLite gives its side files the mode of the database file, so that is set first.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)  # whatever the umask
    except OSError as error:
        raise StoreError(f"database {path}: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise StoreError(
            f"database {path}: its directory cannot be written, and SQLite keeps its log there"
        )
    _keep_a_log(path)


def _keep_a_log(path: Path) -> None:
    """Write-ahead logging, which the file remembers. For this one change SQLite does not wait for others who
    are just making the same one (`BUSY_TIMEOUT_MS` does not count), so it is waited for here. What else is
    wrong with the file shows when it is opened.
    """
    give_up_s = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.Error as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_s:
                return
            time.sleep(_BUSY_PAUSE_S)


def is_damage(error: BaseException) -> bool:
    """SQLite says that the file is none of its own, or broken."""
    return _code(error) in _DAMAGE


def is_emptied(path: Path) -> bool:
    """A database that was opened has no content any more, which SQLite takes for a new one."""
    try:
        return path.stat().st_size == 0
    except OSError:
        return False


def explained(error: BaseException) -> str:
    """What SQLite said, and in plain words what it means."""
    hint = _HINTS.get(_code(error))
    return f"{hint} ({error})" if hint else str(error)


def prepare_connection(connection: Any, _record: Any) -> None:
    """For every new connection (SQLAlchemy's `connect` event)."""
    connection.isolation_level = None  # the driver shall not begin transactions of its own
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _code(error: BaseException) -> int:
    """The primary result code; 0 for what is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _damage_of(path: Path, *, in_use: bool) -> str | None:
    """What is wrong with the file, or None. A file that cannot be looked at is not called damaged."""
    if path.stat().st_size == 0:
        log_left = path.with_name(path.name + "-wal")
        used = in_use or key_file_of(path).exists()
        used = used or (log_left.exists() and log_left.stat().st_size > 0)
        return "it is empty" if used else None
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return str(error) if is_damage(error) else None
    return None if found == "ok" else found


def move_aside(path: Path, *, why: str = "damaged") -> Path:
    """Keep the file and what belongs to it as `NAME.WHY-TIME`; the new path. Raises OSError."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    kept_as = path.with_name(f"{path.name}.{why}-{moment}")
    number = 1
    while kept_as.exists():
        number += 1
        kept_as = path.with_name(f"{path.name}.{why}-{moment}-{number}")
    # Side files first: a new database must never meet the log of the old one.
    for side in SIDE_FILES:
        if (left := path.with_name(path.name + side)).exists():
            left.rename(kept_as.with_name(kept_as.name + side))
    return path.rename(kept_as)
