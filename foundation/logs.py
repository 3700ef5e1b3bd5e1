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


def redact_secrets(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Mask values whose field name looks like a secret (structlog processor)."""
    for name in event:
        if name != "event" and _SECRET_FIELD.search(name):
            event[name] = "***"
    return event


def configure_logs(*, level: str = "info", json: bool = True, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging to write one line per event.

    Lines go to `stream` (standard error by default). Third-party loggers pass through the same
    processors at WARNING and above.

    Raises:
        ValueError: unknown level name.
    """
    if level.lower() not in _LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(_LEVELS)}")
    numeric = _LEVELS[level.lower()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        redact_secrets,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(numeric)
    for noisy in ("httpx", "httpcore", "websockets", "asyncio", "libav"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


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
