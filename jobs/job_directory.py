"""A job's directory: what it takes to finish the job in another process, and its end."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from foundation.logs import get_logger
from foundation.spans import current_span, traceparent_or_none
from jobs.settings import JobSettings, SettingsError, read_auth_token

FORMAT: Final = 1
"""Of what a job leaves in its directory; without a number it is 1. A release knows the one before its own as
well. It changes when an earlier release could not finish the job rightly."""
_KNOWN_FORMATS: Final = range(max(FORMAT - 1, 1), FORMAT + 1)
_FILE: Final = "job.json"
_RESERVE: Final = "reserve"
_RESERVE_BYTES: Final = 64 * 1024
"""Given back when the disk is full, so that what is uploaded and posted can still be written down."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
OVERRIDES: Final[Mapping[str, str]] = {"SITE_URL": "site_url", "COPIES_URL": "copies_url"}
"""What whoever finishes a dead job may know better than its description: variable to settings field."""
_UNSAFE: Final = re.compile(r'[\\:*?"<>|/\s]')
_log = get_logger(component="job-directory")

Settings = TypeVar("Settings", bound=JobSettings)


def create(settings: JobSettings, *, base_name: str, reserve_bytes: int = _RESERVE_BYTES) -> None:
    """Make the directory and its `job.json` (0600, no secret). Blocks. Raises OSError.

    `reserve_bytes`: kept for what has to be written when the disk is full, see `write_private`.
    """
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    document = {"format": FORMAT, **settings.to_document(), "base_name": base_name}
    document["began_at"] = facts_of(settings.directory).get("began_at") or _now_rfc3339()
    if span := current_span().traceparent:
        document["span"] = span  # whoever finishes the job links to it
    write_private(settings.directory / _FILE, json.dumps(document, indent=1))
    _set_aside(settings.directory / _RESERVE, reserve_bytes)


class InUse(OSError):
    """Another process works in the directory; the message names it."""


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep every other process from finishing the job meanwhile; ends with this process, however it ends.

    Blocks for a moment only.

    Raises:
        InUse: another process holds it.
        OSError: no such directory.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{directory}: another process is at work in it") from None
        except OSError as error:  # a file system without locks
            _log.warning("directory.not_locked", reason=error.strerror)
        yield
    finally:
        os.close(descriptor)


def is_full(error: BaseException | None) -> bool:
    """Was the disk full? Looks at what `error` was raised from, too."""
    while error is not None:
        if getattr(error, "errno", None) in _FULL:
            return True
        error = error.__cause__
    return False


def load(
    kind: type[Settings],
    directory: Path,
    environ: Mapping[str, str],
    *,
    overrides: Mapping[str, str],
) -> tuple[Settings, str]:
    """The settings of a dead job and the name of its files. The token has to come from the environment;
    the variables in `overrides` (variable to settings field) may, and then win. Blocks.

    Raises:
        SettingsError: no readable `job.json`, one of a later release, or no token.
    """
    path = directory / _FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is no job's description: {error}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: is no job's description")
    if (found := document.get("format", 1)) not in _KNOWN_FORMATS:
        raise SettingsError(
            f"{path}: has format {found!r}, this release knows {FORMAT}: its job can be finished by the "
            "release that began it, or a later one"
        )
    for variable, key in overrides.items():
        if environ.get(variable):
            document[key] = environ[variable].removesuffix("/")
    auth_token = read_auth_token(environ)
    if not auth_token:
        raise SettingsError("AuthToken cannot be empty")
    directory = directory.absolute()
    settings = kind.from_document(document, auth_token=auth_token, directory=directory)
    if settings.directory != directory:
        raise SettingsError(f"{directory}: should be named after its job, {settings.job_id}")
    return settings, str(document.get("base_name") or settings.call_id)


def span_of(directory: Path) -> str:
    """The `traceparent` of the span of the job in `directory`; empty: it was not traced. Blocks."""
    return traceparent_or_none(facts_of(directory).get("span"))


def base_name(directory: Path) -> str:
    """How the files of the job in `directory` are named, as far as `job.json` tells; else empty. Blocks."""
    return str(facts_of(directory).get("base_name") or "")


def facts_of(directory: Path) -> Mapping[str, Any]:
    """What `job.json` in `directory` says; nothing if it cannot be read. Blocks."""
    try:
        document = json.loads((directory / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def is_unfinished(directory: Path) -> bool:
    """Somebody has still to publish what is in `directory`. Blocks."""
    return (directory / _FILE).exists()


def remove(directory: Path, *, keep: str = "") -> None:
    """Delete everything but what `keep` names in it: the post exists. Blocks; never raises."""
    try:
        if not keep or not (directory / keep).exists():
            shutil.rmtree(directory)
            return
        (directory / _FILE).unlink(missing_ok=True)  # from now on nobody finishes the job again
        for path in directory.iterdir():
            if path.name == keep:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        _log.warning("directory.not_removed", reason=error.strerror or type(error).__name__)


def safe_name(name: str) -> str:
    """The characters that file systems dislike become `_` (calls-plugin.md 5.2)."""
    return _UNSAFE.sub("_", name)


def write_private(path: Path, text: str, *, may_spend_reserve: bool = True) -> None:
    """Write a file that only this user can read, complete or not at all, on disk when it returns.

    On a full disk the directory's reserve makes room for it, unless that is for something more important.
    Blocks. Raises OSError.
    """
    try:
        _write_private(path, text)
    except OSError as error:
        reserve = path.with_name(_RESERVE)
        if not may_spend_reserve or not is_full(error) or not reserve.exists():
            raise
        reserve.unlink()
        _write_private(path, text)


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _now_rfc3339() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _set_aside(path: Path, size_bytes: int) -> None:
    with suppress(OSError):  # without it the job is as safe as the disk is large
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
        finally:
            os.close(descriptor)
