"""Errors that nobody foresaw, where they cost a piece of the recording and not the rest of it."""

from __future__ import annotations

import threading
from typing import Final

from foundation.error_place import place
from foundation.logs import get_logger
from jobs.disk_watch import DiskFull
from jobs.job_directory import is_full

_MOST_TOLD: Final = 100
"""Each kind once; a recording that has more of them has told enough."""
_log = get_logger(component="recording")


class Mishaps:
    """Of one recording, from any thread. Messages of errors may hold names: kind and place are told."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()
        self._told: set[tuple[str, str, str]] = set()

    def note(self, part: str, error: Exception) -> None:
        """`part` of the recording was left out because of `error`."""
        kind = (part, type(error).__name__, place(error))
        with self._lock:
            self.count += 1
            tells = kind not in self._told and len(self._told) < _MOST_TOLD
            if tells:
                self._told.add(kind)
        if tells:
            _log.error("recording.mishap", part=part, error=kind[1], at=kind[2])


def innermost(error: Exception) -> Exception:
    """The first of those in an exception group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def plain_reason(error: Exception) -> str:
    """Why nothing more can be written, for people in a call: without paths."""
    full = isinstance(error, DiskFull) or is_full(error)
    return "its disk is full" if full else "it could not be written any more"
