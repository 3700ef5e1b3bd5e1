"""Keeps the embedded database when its file is deleted, renamed or replaced under the running service.

An open file outlives its name: connections go on, and all they write is lost with the last of them. So
somebody has to look whether the name still leads to the file that is open, and if not, write it all again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from foundation.logs import get_logger
from offloader.store.sqlite_copy import to_disk
from offloader.store.sqlite_file import BUSY_TIMEOUT_MS, SIDE_FILES, move_aside

_COPY_SUFFIX: Final = ".put-back"

log = get_logger()


class Anchor:
    """A connection to the file, used for nothing else. Methods block; call them in threads, at any time."""

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error, OSError."""
        self._path = path
        self._busy = threading.Lock()
        self.generation = 0
        """Counts the files: connections that were made before another one are to be closed."""
        self._open()

    def in_place(self) -> bool:
        """Whether the path leads to the file that is open."""
        return _identity(self._path) == self._file

    def put_back(self) -> None:
        """Make it so again, with everything that was committed: nobody may write meanwhile. Idempotent.

        What lies there instead is kept aside. After an error all is as before: the next try may succeed.

        Raises:
            sqlite3.Error, OSError: it cannot be written, or the open file cannot be read.
        """
        with self._busy:
            if self.in_place():
                return
            copy = self._path.with_name(self._path.name + _COPY_SUFFIX)
            copy.unlink(missing_ok=True)
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._connection.execute("VACUUM INTO ?", (str(copy),))
            to_disk(copy)
            found = self._clear_place()
            os.replace(copy, self._path)
            to_disk(self._path.parent)
            self._connection.close()
            self._open()
            self.generation += 1
            log.error(
                "store.file_gone", file=str(self._path), put_back=True, found=found and str(found)
            )

    def _clear_place(self) -> Path | None:
        """Where what lay there is now. No file may ever meet the log of another one."""
        for side, identity in self._sides.items():
            if identity is not None and _identity(side) == identity:
                side.unlink()
        if self._path.exists():
            return move_aside(self._path, why="found")
        for side in self._sides:
            side.unlink(missing_ok=True)  # a log of nothing
        return None

    def close(self) -> None:
        """Idempotent."""
        with self._busy:
            self._connection.close()

    def _open(self) -> None:
        # Autocommit, for VACUUM; of several threads only one is in here at a time.
        self._connection = sqlite3.connect(
            self._path,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            # The log beside the file is opened with the first reading, and may have lost its name later.
            self._connection.execute("PRAGMA journal_mode=WAL")  # which a copy does not inherit
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            self._file = _identity(self._path)
            sides = [self._path.with_name(self._path.name + side) for side in SIDE_FILES]
            self._sides = {side: _identity(side) for side in sides}
        except BaseException:
            self._connection.close()
            raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
