"""Log lines of a worker, written by the owner: one writer for each log file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from foundation.logs import get_logger

_OWN_KEYS = ("event", "level", "time", "timestamp", "logger")
_PLAIN = (str, int, float, bool, type(None))


class RelayHandler(logging.Handler):
    """Turns records into plain maps for `relay`."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send({"level": record.levelno, "fields": self._plain(record)})
        except Exception:  # noqa: BLE001 - logging must not stop what is logged
            self.handleError(record)

    def _plain(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = record.msg if isinstance(record.msg, dict) else {"event": record.getMessage()}
        plain = {k: v if isinstance(v, _PLAIN) else str(v) for k, v in fields.items()}
        if record.exc_info is not None and record.exc_info[1] is not None:
            # Without its text, which may hold what a log line must not.
            plain["exception"] = type(record.exc_info[1]).__name__
        return plain


def relay(message: dict[str, Any], *, worker: int) -> None:
    """Log here what `RelayHandler` sent there."""
    fields = dict(message["fields"])
    event = str(fields.get("event", ""))
    rest = {key: value for key, value in fields.items() if key not in _OWN_KEYS}
    get_logger(worker=worker).log(int(message["level"]), event, **rest)
