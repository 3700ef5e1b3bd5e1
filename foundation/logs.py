"""Structured logs: a fixed event name, fields with units, ids instead of names.

Secrets, speech and people's names never enter a log line. Fields whose name looks like a secret are
masked here as a last defence; not logging them is the first.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import structlog

from foundation.tracebacks import hide_texts_of_uncaught, render

_SECRET_FIELD = re.compile(
    r"token|secret|password|auth_?key|authorization|credential", re.IGNORECASE
)
_LEVELS = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}
_TASK = re.compile(r"<Task \w+ name='([\w.:-]{1,64})'")


class UnknownLevel(ValueError):
    """There is no such level; the message names it."""


def redact_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Mask values whose field name looks like a secret (structlog processor)."""
    for name in event:
        if name != "event" and _SECRET_FIELD.search(name):
            event[name] = "***"
    return event


def last_processors(*, json: bool, colors: bool = False) -> list[structlog.typing.Processor]:
    """What makes a line of an event: an error without what its text may hold, and where it is not JSON, which
    escapes them, no control characters: others have chosen names that are in it."""
    first: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.ExceptionRenderer(render),
    ]
    if json:
        return [*first, structlog.processors.JSONRenderer()]
    return [*first, _escape_controls, structlog.dev.ConsoleRenderer(colors=colors)]


def _escape_controls(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n" if name == "exception" else ""
            event[name] = "".join(
                c if c.isprintable() or c in kept else c.encode("unicode_escape").decode()
                for c in value
            )
    return event


def configure_logs(*, level: str = "info", json: bool = True, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging to write one line per event.

    Lines go to `stream` (standard error by default). Third-party loggers pass through the same
    processors at WARNING and above. Errors are told without their texts, unless they are our own; those that
    end the process as well.

    Raises:
        UnknownLevel: unknown level name.
    """
    if level.lower() not in _LEVELS:
        raise UnknownLevel(f"log level {level!r} is not one of {', '.join(_LEVELS)}")
    numeric = _LEVELS[level.lower()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        redact_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=last_processors(json=json)
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(numeric)
    for noisy in ("httpx", "httpcore", "websockets", "asyncio", "libav"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(_without_state)
    hide_texts_of_uncaught()


def _without_state(record: logging.LogRecord) -> bool:
    """The event loop appends what callbacks and tasks hold, results and errors included: its first line, and
    the task's name, are told."""
    first, _, rest = record.getMessage().partition("\n")
    if rest:
        task = _TASK.search(rest)
        record.msg, record.args = f"{first} (task {task[1]})" if task else first, ()
    return True


def also_log_into(path: Path, *, most_bytes: int) -> Callable[[], None]:
    """Write every line from now on into that file, too, which only this user can read, up to so many bytes.
    Returns what ends it. A file that cannot be written costs its lines, and nothing else."""
    handler = _FileCopy(path, most_bytes)
    root = logging.getLogger()
    if root.handlers:
        handler.setFormatter(root.handlers[0].formatter)
    root.addHandler(handler)

    def end() -> None:
        root.removeHandler(handler)
        handler.close()

    return end


class _FileCopy(logging.Handler):
    def __init__(self, path: Path, most_bytes: int) -> None:
        super().__init__()
        self._left_bytes = most_bytes
        self._descriptor: int | None = None
        with suppress(OSError):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        if self._descriptor is None or self._left_bytes <= 0:
            return
        line = f"{self.format(record)}\n".encode(errors="replace")
        with suppress(OSError):
            self._left_bytes -= os.write(self._descriptor, line)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()


def get_logger(**context: Any) -> structlog.typing.FilteringBoundLogger:
    """A logger with `context` bound to every event."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**context)
    return logger
