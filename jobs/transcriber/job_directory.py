"""A job's directory: what it takes to finish the job in another process, and its end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from foundation.logs import get_logger
from jobs.settings import SettingsError
from jobs.transcriber.settings import TranscriberSettings

_FILE: Final = "job.json"
_log = get_logger(component="job-directory")


def create(settings: TranscriberSettings, *, base_name: str) -> None:
    """Make the directory and its `job.json` (0600, no secret). Blocks. Raises OSError."""
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    document = {**settings.to_document(), "base_name": base_name}
    path = settings.directory / _FILE
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
    temporary.replace(path)


def load(directory: Path, environ: Mapping[str, str]) -> tuple[TranscriberSettings, str]:
    """The settings of a dead job and the name of its files. AUTH_TOKEN has to come from the environment;
    SITE_URL, MODELS_DIR and MODEL_SIZE may, and then win. Blocks.

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
    for variable, key in (
        ("SITE_URL", "site_url"),
        ("MODELS_DIR", "models_dir"),
        ("MODEL_SIZE", "model_size"),
    ):
        if environ.get(variable):
            document[key] = environ[variable].removesuffix("/")
    auth_token = environ.get("AUTH_TOKEN", "")
    if not auth_token:
        raise SettingsError("AuthToken cannot be empty")
    settings = TranscriberSettings.from_document(
        document, auth_token=auth_token, directory=directory.absolute()
    )
    if settings.directory != directory.absolute():
        raise SettingsError(f"{directory}: should be named after its job, {settings.job_id}")
    return settings, str(document.get("base_name") or settings.call_id)


def remove(directory: Path) -> None:
    """Delete everything: the post exists. Blocks; never raises."""
    try:
        shutil.rmtree(directory)
    except OSError as error:
        _log.warning("directory.not_removed", reason=error.strerror or type(error).__name__)
