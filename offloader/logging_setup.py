"""Logging targets of the TOML's `logger` group: standard error and a file, each with form and level."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final, TextIO

import structlog

from foundation.layered_config import ConfigError
from foundation.logs import configure_logs, get_logger, last_processors, redact_secrets
from offloader.log_file import CappedLogFile
from offloader.settings import LoggerSettings

_CHATTY: Final = ("uvicorn", "sqlalchemy", "aiosqlite", "asyncpg", "alembic", "docker", "urllib3")
"""Their lower levels tell of themselves, and aiosqlite's of every value that is stored."""
_LEVELS: Final = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}


def set_up_logging(settings: LoggerSettings, *, stream: TextIO | None = None) -> None:
    """Write the service's log as the settings say.

    Raises:
        ConfigError: the log file that somebody asked for cannot be written. The default one is given up
            with a warning.
    """
    levels = [settings.console_level] * settings.enable_console
    levels += [settings.file_level] * settings.enable_file
    lowest = min(levels, key=lambda level: _LEVELS[level.lower()])
    configure_logs(level=lowest, json=settings.console_json, stream=stream)
    # The level is asked for with each line, since it may change while the process runs.
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *structlog.get_config()["processors"]],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    for library in _CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
    root = logging.getLogger()
    console = root.handlers[0]
    console.setLevel(_LEVELS[settings.console_level.lower()])
    if not settings.enable_file:
        return
    try:
        root.addHandler(_file_handler(settings))
    except OSError as error:
        text = f"logger.file_location: {settings.file_location}: {error.strerror}"
        if settings.file_wanted or not settings.enable_console:
            raise ConfigError(text) from error
        get_logger().warning("log.file_unusable", reason=text)
        return
    if not settings.enable_console:
        root.removeHandler(console)


def change_levels(settings: LoggerSettings) -> None:
    """Log at these levels from now on, where `set_up_logging` has set up to."""
    root = logging.getLogger()
    for handler in root.handlers:
        to_file = isinstance(handler, CappedLogFile)
        level = settings.file_level if to_file else settings.console_level
        handler.setLevel(_LEVELS[level.lower()])
    root.setLevel(min(handler.level for handler in root.handlers))


def _file_handler(settings: LoggerSettings) -> logging.Handler:
    path = Path(settings.file_location)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = CappedLogFile(
        path,
        max_bytes=settings.file_max_bytes,
        max_age=settings.file_max_age,
        keep=settings.file_keep,
    )
    handler.setLevel(_LEVELS[settings.file_level.lower()])
    foreign: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        redact_secrets,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=foreign, processors=last_processors(json=settings.file_json)
        )
    )
    return handler
