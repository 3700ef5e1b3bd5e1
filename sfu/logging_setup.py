"""The log's targets: standard output and a file, each with form and level (rtcd.md 1.2)."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import sys
import threading
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, TextIO

import structlog

from foundation.layered_config import ConfigError
from foundation.logs import configure_logs, get_logger, last_processors, redact_secrets
from sfu.settings import SfuSettings

MAX_BYTES: Final = 100_000_000
KEEP: Final = 20
"""Files put aside. rtcd keeps all of them, until the disk is full."""
_LEVELS: Final = {
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
    "stdlog": logging.DEBUG,
}


def set_up_logging(settings: SfuSettings, *, stream: TextIO | None = None) -> None:
    """Write the log as the settings say; `stream` in place of standard output.

    Raises:
        ConfigError: the log file that somebody asked for cannot be written. The default one is given up
            with a warning.
    """
    stream = stream or sys.stdout
    configure_logs(level=lowest_level(settings), json=settings.console_json, stream=stream)
    root = logging.getLogger()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    root.handlers[:] = []
    if settings.console_level:
        console = logging.StreamHandler(stream)
        console.setLevel(_LEVELS[settings.console_level.lower()])
        console.setFormatter(_formatter(json=settings.console_json, color=settings.console_color))
        root.addHandler(console)
    if settings.file_level:
        _add_file(root, settings)


def lowest_level(settings: SfuSettings) -> str:
    """What any target wants to see."""
    levels = [_LEVELS[level.lower()] for level in _levels_in_use(settings)]
    return logging.getLevelName(min(levels)).lower().replace("critical", "fatal")


def _levels_in_use(settings: SfuSettings) -> list[str]:
    return [level for level in (settings.console_level, settings.file_level) if level]


def _add_file(root: logging.Logger, settings: SfuSettings) -> None:
    path = settings.file_location
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = RotatedLogFile(path)
    except OSError as error:
        text = f"logger.file_location: {path}: {error.strerror}"
        if settings.file_wanted or not settings.console_level:
            raise ConfigError(text) from error
        get_logger().warning("log.file_unusable", reason=text)
        return
    file.setLevel(_LEVELS[settings.file_level.lower()])
    file.setFormatter(_formatter(json=settings.file_json, color=False))
    root.addHandler(file)


def _formatter(*, json: bool, color: bool) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            redact_secrets,
        ],
        processors=last_processors(json=json, colors=color),
    )


class RotatedLogFile(RotatingFileHandler):
    """Put aside at a size as `NAME.1.gz` (the newest), `NAME.2.gz` …; readable by its owner only."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        """Raises OSError: the file cannot be written."""
        self._compressing: threading.Thread | None = None
        super().__init__(path, maxBytes=max_bytes, backupCount=keep, encoding="utf-8")
        self.namer = lambda name: f"{name}.gz"
        self.rotator = self._put_aside

    def close(self) -> None:
        super().close()
        self.wait()

    def wait(self) -> None:
        """Until what was put aside is compressed."""
        if self._compressing is not None:
            self._compressing.join()

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return open(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8")

    def _put_aside(self, source: str, target: str) -> None:
        """A hundred megabytes take seconds to compress, and whoever logs has none to wait."""
        self.wait()
        plain = target.removesuffix(".gz") + ".plain"
        os.replace(source, plain)
        self._compressing = threading.Thread(
            target=_compress, args=(plain, target), name="log-compress"
        )
        self._compressing.start()


def _compress(plain: str, target: str) -> None:
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with (
            open(plain, "rb") as source,
            open(descriptor, "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6) as packed,
        ):
            shutil.copyfileobj(source, packed)
        os.unlink(plain)
    except OSError:
        return  # no room: the plain file stays, and everything in it
