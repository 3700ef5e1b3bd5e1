"""A job's directory: what it takes to finish the job in another process, and its end."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from foundation.logs import get_logger
from jobs.settings import JobSettings, SettingsError, read_auth_token

_FILE: Final = "job.json"
_UNSAFE: Final = re.compile(r'[\\:*?"<>|/\s]')
_log = get_logger(component="job-directory")

Settings = TypeVar("Settings", bound=JobSettings)


def create(settings: JobSettings, *, base_name: str) -> None:
    """Make the directory and its `job.json` (0600, no secret). Blocks. Raises OSError."""
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    document = {**settings.to_document(), "base_name": base_name}
    write_private(settings.directory / _FILE, json.dumps(document, indent=1))


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
        SettingsError: no readable `job.json`, or no token.
    """
    path = directory / _FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: is no job's description: {error}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: is no job's description")
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


def remove(directory: Path) -> None:
    """Delete everything: the post exists. Blocks; never raises."""
    try:
        shutil.rmtree(directory)
    except OSError as error:
        _log.warning("directory.not_removed", reason=error.strerror or type(error).__name__)


def safe_name(name: str) -> str:
    """The characters that file systems dislike become `_` (calls-plugin.md 5.2)."""
    return _UNSAFE.sub("_", name)


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, complete or not at all, on disk when it returns.

    Blocks. Raises OSError.
    """
    temporary = path.with_name(path.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
