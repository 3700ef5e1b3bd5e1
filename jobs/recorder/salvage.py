"""`python -m jobs.recorder salvage DIR`: finish a dead job from what it left on disk."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from callclient.plugin_api import ApiError
from foundation.logs import configure_logs, get_logger
from jobs import job_directory, manifest
from jobs.container import CRASHED_VARIABLE
from jobs.copies.job_copy import VOUCHED_VARIABLE, JobCopy
from jobs.publication import salvage_exit_code
from jobs.recorder.artifacts import ARTIFACTS_DIR, make_artifacts
from jobs.recorder.mp4 import Mp4Error
from jobs.recorder.outcome import NothingRecorded, anything_recorded, complete_file, publish
from jobs.recorder.settings import RecorderSettings
from jobs.settings import SettingsError
from jobs.site_api import site_api
from jobs.status import StatusReporter
from jobs.tracing import traced_salvage

_EXIT_OK: Final = 0
_EXIT_USAGE: Final = 2
_CRASHED: Final = "the recorder ended unexpectedly; what was recorded until then is posted"
_CRASHED_EARLY: Final = "the recorder ended unexpectedly before anything was recorded"
_log = get_logger(component="salvage")


def main(directory: Path, environ: Mapping[str, str]) -> int:
    """0: posted, or nothing to post. 1: not posted, everything is still there. 2: no such job. 3: refused for
    good. 4: somebody else may publish it, and nobody can tell."""
    configure_logs(level=environ.get("LOG_LEVEL") or "info")
    try:
        settings, base_name = job_directory.load(
            RecorderSettings, directory, environ, overrides=job_directory.OVERRIDES
        )
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_USAGE
    try:
        with (
            job_directory.held(settings.directory),
            traced_salvage(settings, directory, environ, job_type="recording"),
        ):
            crashed = bool(environ.get(CRASHED_VARIABLE))
            vouched = environ.get(VOUCHED_VARIABLE) == "true"
            try:
                asyncio.run(_salvage(settings, base_name, crashed=crashed, vouched=vouched))
            finally:
                if job_directory.is_unfinished(settings.directory):
                    manifest.seal(settings.directory, "tried")
    except (ApiError, Mp4Error, OSError, ValueError) as error:
        _log.error("salvage.failed", reason=str(error))
        return salvage_exit_code(error)
    return _EXIT_OK


async def _salvage(
    settings: RecorderSettings, base_name: str, *, crashed: bool, vouched: bool
) -> None:
    copy = JobCopy(settings, record_only=True, vouched=vouched)
    copy.begin()
    async with site_api(settings) as api:
        if crashed:
            something = await asyncio.to_thread(anything_recorded, settings.directory)
            text = _CRASHED if something else _CRASHED_EARLY
            await StatusReporter(api, settings, "recording").failed(text)
        try:
            recording = await asyncio.to_thread(
                complete_file, settings.directory, chapters=settings.chapters
            )
        except NothingRecorded:
            _log.info("recording.empty")
            certain = True
        else:
            certain = await publish(
                api,
                settings,
                base_name=base_name,
                on_progress=_progress,
                before_post=copy.before_post,
            )
            if certain:
                await asyncio.to_thread(make_artifacts, settings, recording)
    if certain:
        copy.release()
        await asyncio.to_thread(manifest.seal, settings.directory, "kept")
        await asyncio.to_thread(job_directory.remove, settings.directory, keep=ARTIFACTS_DIR)
    await copy.finish()


def _progress(stage: str, done: int, total: int) -> None:
    _log.info("progress", stage=stage, done=done, total=total)
