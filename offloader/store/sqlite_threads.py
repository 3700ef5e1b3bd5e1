"""The threads that speak to the embedded database: aiosqlite makes one per connection.

Nobody awaits the thread of a connection that was given up (its query or its connecting was cancelled), and
it still answers to the event loop. Whoever closes the database has to outwait it, or it finds a closed loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Final
from weakref import WeakSet

import aiosqlite

from foundation.logs import get_logger

_END_S: Final = 10.0
"""More than a busy file is waited for (`BUSY_TIMEOUT_MS`)."""
_ROWS_AT_ONCE: Final = 64

log = get_logger()


class SqliteThreads:
    """Makes connections to one file and knows their threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads: WeakSet[Thread] = WeakSet()

    async def connect(self) -> aiosqlite.Connection:
        """A new connection (SQLAlchemy's `async_creator`). Raises sqlite3.Error."""
        connection = _Connection(partial(sqlite3.connect, self._path), _ROWS_AT_ONCE)
        thread = connection._thread
        thread.daemon = True  # as SQLAlchemy does: one that hangs keeps no process alive
        self._threads.add(thread)
        return await connection

    async def ended(self, *, within_s: float = _END_S) -> None:
        """Wait until the threads have ended, of connections that are closed or being closed."""
        await asyncio.to_thread(self._join, time.monotonic() + within_s)

    def _join(self, give_up_s: float) -> None:
        for thread in list(self._threads):
            thread.join(max(0.0, give_up_s - time.monotonic()))
        if left := sum(thread.is_alive() for thread in list(self._threads)):
            log.error("store.connections_left", file=str(self._path), connections=left)


class _Connection(aiosqlite.Connection):
    """Can be stopped twice.

    SQLAlchemy stops a connection whose close was cancelled, and the close stops it again when its turn
    comes: aiosqlite would ask a thread that has ended, and never get an answer.
    """

    _stopped: asyncio.Future[Any] | None = None
    _is_stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        if not self._is_stopped:
            self._is_stopped = True
            self._stopped = super().stop()
        return self._stopped
