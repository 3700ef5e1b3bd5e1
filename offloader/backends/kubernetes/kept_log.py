"""The files of a log that is kept: its lines, how far it was read, whether that is all, and who keeps it."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from offloader.backends.kubernetes.log_lines import Position, in_utc
from offloader.backends.process_files import log_numbers
from offloader.backends.shim.capped_log import CappedLog
from offloader.errors import BackendError

COMPLETE: Final = "log.complete"
_POSITION: Final = "log.position"
_LOCK: Final = "log.lock"


class LogFile:
    """The files of one log, and the lock on them. Blocks."""

    def __init__(self, directory: Path, lock: int, capped: CappedLog, position: Position) -> None:
        self._directory = directory
        self._lock = lock
        self._capped = capped
        self.position = position

    @classmethod
    def opened(cls, directory: Path, max_bytes: int) -> LogFile | None:
        """To go on, or to begin; None: it is kept by another process, or complete."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if (directory / COMPLETE).exists():
            os.close(lock)
            return None
        position = _read_position(directory)
        begun = position is not None and (directory / "job.log").exists()
        newest = max(log_numbers(directory), default=0) if begun else -1
        capped = CappedLog(max_bytes, str(directory), continued_at=newest)
        return cls(directory, lock, capped, position or Position())

    def write(self, text: bytes) -> None:
        """Append, and remember how far it came."""
        self._capped.write(text)
        at = self.position
        document = json.dumps({"time": at.time, "lines": at.lines, "line_bytes": at.line_bytes})
        self._put(_POSITION, document)

    def finish(self) -> None:
        """There is no more."""
        self._put(COMPLETE, "")

    def close(self) -> None:
        self._capped.close()
        os.close(self._lock)

    def _put(self, name: str, text: str) -> None:
        with suppress(OSError):  # a full disk costs log lines, never the job
            path = self._directory / f"{name}.new"
            path.write_text(text, encoding="ascii")
            path.replace(self._directory / name)


def _read_position(directory: Path) -> Position | None:
    try:
        document = json.loads((directory / _POSITION).read_text(encoding="ascii"))
        time = str(document["time"])
        time = in_utc(time) if time else ""
        return Position(time, int(document["lines"]), int(document["line_bytes"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, BackendError):
        return None
