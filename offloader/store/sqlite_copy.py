"""Whole copies of the embedded database while it is in use, by SQLite's online backup.

Before a migration one is left beside the database, as `NAME.schema-STEP`: the release before can be started
on it. It is a plain database, so a release that has no command to restore it needs none.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from offloader.errors import StoreError
from offloader.store.sqlite_file import BUSY_TIMEOUT_MS, explained

_KEPT: Final = 2
"""Copies from before so many steps: they hold what may have been deleted since."""
_KEPT_FOR: Final = timedelta(days=30)
_NEW_SUFFIX: Final = ".new"
_STEP: Final = re.compile(r"[0-9a-z]+")


def copy_to(source: Path, target: Path) -> None:
    """A consistent copy of what is committed, readable by its owner only, complete or not there at all. What
    was at `target` is replaced. Others may go on writing. Blocks.

    Raises:
        sqlite3.Error, OSError: the one cannot be read or the other not written.
    """
    new = target.with_name(target.name + _NEW_SUFFIX)
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with (
            closing(sqlite3.connect(source, timeout=BUSY_TIMEOUT_MS / 1000)) as reading,
            closing(sqlite3.connect(new)) as writing,
        ):
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
        to_disk(new)
        os.replace(new, target)
    finally:
        new.unlink(missing_ok=True)
    to_disk(target.parent)


def copy_before_step(path: Path, step: str) -> Path:
    """Keep the database as it is at `step`, and of such copies the newest. Blocks.

    Raises:
        StoreError: it cannot be made; then nothing should be changed.
    """
    target = path.with_name(f"{path.name}.schema-{step}")
    try:
        copy_to(path, target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"its schema is not changed, for no copy of it could be made as {target}: {explained(error)}"
        ) from error
    for _, old in copies_before_steps(path)[:-_KEPT]:
        with suppress(OSError):
            old.unlink()
    return target


def copies_before_steps(path: Path) -> list[tuple[str, Path]]:
    """What `copy_before_step` left of the database at `path`: step and file, the lowest step first."""
    prefix = f"{path.name}.schema-"
    found = []
    with suppress(OSError):
        for other in path.parent.iterdir():
            step = other.name.removeprefix(prefix)
            if other.name.startswith(prefix) and _STEP.fullmatch(step):
                found.append((step, other))
    return sorted(found)


def forget_old_copies(path: Path) -> None:
    """Remove the copies that nobody goes back to any more. Blocks; never raises."""
    oldest_s = time.time() - _KEPT_FOR.total_seconds()
    for _, copy in copies_before_steps(path):
        with suppress(OSError):
            if copy.stat().st_mtime < oldest_s:
                copy.unlink()


def to_disk(path: Path) -> None:
    """What was written to a file or directory survives a power cut from now on. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
