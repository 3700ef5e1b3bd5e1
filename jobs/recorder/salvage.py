"""`python -m jobs.recorder salvage DIR`: finish a dead job from what it left on disk."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from callclient.plugin_api import ApiError, PluginApi
from foundation.logs import configure_logs, get_logger
from jobs import job_directory
from jobs.publication import salvage_exit_code
from jobs.recorder.mp4 import Mp4Error
from jobs.recorder.outcome import complete_file, publish
from jobs.recorder.settings import RecorderSettings
from jobs.settings import SettingsError

_EXIT_OK: Final = 0
_EXIT_USAGE: Final = 2
_log = get_logger(component="salvage")


def main(directory: Path, environ: Mapping[str, str]) -> int:
    """0: posted. 1: not posted, everything is still there. 2: no such job. 3: refused for good."""
    configure_logs(level=environ.get("LOG_LEVEL") or "info")
    try:
        settings, base_name = job_directory.load(
            RecorderSettings, directory, environ, overrides={"SITE_URL": "site_url"}
        )
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_USAGE
    try:
        asyncio.run(_salvage(settings, base_name))
    except (ApiError, Mp4Error, OSError, ValueError) as error:
        _log.error("salvage.failed", reason=str(error))
        return salvage_exit_code(error)
    return _EXIT_OK


async def _salvage(settings: RecorderSettings, base_name: str) -> None:
    await asyncio.to_thread(complete_file, settings.directory)
    async with PluginApi(
        site_url=settings.site_url, auth_token=settings.auth_token, ca_file=settings.ca_file
    ) as api:
        certain = await publish(api, settings, base_name=base_name, on_progress=_progress)
    if certain:
        await asyncio.to_thread(job_directory.remove, settings.directory)


def _progress(stage: str, done: int, total: int) -> None:
    _log.info("progress", stage=stage, done=done, total=total)
