"""The service's log file: put aside at a size or an age, old ones deleted, readable by its owner only."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from logging import LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_SWEEP_EVERY_S: Final = 3600.0


class CappedLogFile(RotatingFileHandler):
    """Files put aside are `NAME.1` (the newest), `NAME.2` …

    The age of the present file is that of its first line, so it goes on over restarts.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        max_age: timedelta | None,
        keep: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now`: seconds since the epoch. Raises OSError when the file cannot be written."""
        self._max_age_s = max_age.total_seconds() if max_age else None
        self._now = now
        self._begun_s = now()
        self._swept_s = 0.0
        super().__init__(path, maxBytes=max_bytes, backupCount=keep, encoding="utf-8")

    def shouldRollover(self, record: LogRecord) -> bool:
        """Before each line: is the file too large for it, or too old?"""
        now = self._now()
        if now - self._swept_s >= _SWEEP_EVERY_S:
            self._swept_s = now
            self._delete_aged(now)
        aged = self._max_age_s is not None and now - self._begun_s >= self._max_age_s
        return aged or bool(super().shouldRollover(record))

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._begun_s = _first_time_s(path) or self._now()
        return open(descriptor, "a", encoding="utf-8")

    def _delete_aged(self, now: float) -> None:
        if self._max_age_s is None:
            return
        for number in range(1, self.backupCount + 1):
            aside = Path(f"{self.baseFilename}.{number}")
            try:
                if now - aside.stat().st_mtime >= self._max_age_s:
                    aside.unlink()
            except OSError:
                continue  # not there, or not ours to delete


def _first_time_s(path: Path) -> float | None:
    """When the first line was written."""
    with path.open(encoding="utf-8", errors="replace") as file:
        match = _TIME.search(file.readline(64 * 1024))
    if match is None:
        return None
    try:
        return datetime.fromisoformat(match[0]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
