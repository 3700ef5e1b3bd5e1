"""`python -m jobs.transcriber salvage DIR`: finish a dead job from what it left on disk."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from callclient.plugin_api import ApiError
from foundation.logs import configure_logs, get_logger
from jobs import job_directory, manifest
from jobs.container import CRASHED_VARIABLE
from jobs.copies.job_copy import VOUCHED_VARIABLE, JobCopy
from jobs.publication import salvage_exit_code
from jobs.settings import SettingsError
from jobs.site_api import site_api
from jobs.status import StatusReporter
from jobs.tracing import traced_salvage
from jobs.transcriber import speech_settings
from jobs.transcriber.document import language_of
from jobs.transcriber.engines.base import EngineLoadError
from jobs.transcriber.kept import finish_directory
from jobs.transcriber.outcome import (
    check_understood,
    publish,
    write_files,
    written_language,
)
from jobs.transcriber.redo import log_progress, transcribe_place
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.workers import EngineGone

_EXIT_OK: Final = 0
_EXIT_USAGE: Final = 2
_OVERRIDES: Final = {
    **job_directory.OVERRIDES,
    "MODELS_DIR": "models_dir",
    "MODEL_SIZE": "model_size",
    "MODEL": "model_size",  # wins, as in the job's own settings
}
_CRASHED: Final = "the transcriber ended unexpectedly; what was said until then is posted"
_log = get_logger(component="salvage")


def main(directory: Path, environ: Mapping[str, str]) -> int:
    """0: posted, or nothing to post. 1: not posted, everything is still there. 2: no such job. 3: refused for
    good. 4: somebody else may publish it, and nobody can tell."""
    configure_logs(level=environ.get("LOG_LEVEL") or "info")
    try:
        settings, base_name = job_directory.load(
            TranscriberSettings, directory, environ, overrides=_OVERRIDES
        )
        # Never on disk: in a container they are in its environment, else the job service gives them again.
        options = speech_settings.api_options(environ)
        settings = replace(settings, transcribe_api_options=options)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_USAGE
    try:
        with (
            job_directory.held(settings.directory),
            traced_salvage(settings, directory, environ, job_type="transcribing"),
        ):
            crashed = bool(environ.get(CRASHED_VARIABLE))
            vouched = environ.get(VOUCHED_VARIABLE) == "true"
            try:
                asyncio.run(_salvage(settings, base_name, crashed=crashed, vouched=vouched))
            finally:
                if job_directory.is_unfinished(settings.directory):
                    manifest.seal(settings.directory, "tried")
    except (ApiError, EngineGone, EngineLoadError, OSError, ValueError) as error:
        _log.error("salvage.failed", reason=str(error))
        return salvage_exit_code(error)
    return _EXIT_OK


async def _salvage(
    settings: TranscriberSettings, base_name: str, *, crashed: bool, vouched: bool
) -> None:
    copy = JobCopy(settings, record_only=True, vouched=vouched)
    copy.begin()
    if await _publish_what_is_there(settings, base_name, crashed=crashed, copy=copy):
        copy.release()
        await asyncio.to_thread(finish_directory, settings)
    await copy.finish()


async def _publish_what_is_there(
    settings: TranscriberSettings, base_name: str, *, crashed: bool, copy: JobCopy
) -> bool:
    """Is the job surely done, so that its files may go?"""
    directory = settings.directory
    async with site_api(settings) as api:
        if crashed:
            await StatusReporter(api, settings, "transcribing").failed(_CRASHED)
        # What the dead job had written and perhaps uploaded is not made again.
        language = await asyncio.to_thread(written_language, directory)
        if language is None:
            redone = await transcribe_place(directory, settings, base_name=base_name)
            segments = redone.segments
            if not segments:
                # Nobody said anything, or it died before anything was said: nothing is published.
                _log.info("transcript.empty")
                return True
            check_understood(segments)
            speakers = await asyncio.to_thread(SpeakerDirectory.load, directory)
            for session_id, user_id in {(s.session_id, s.user_id) for s in segments}:
                await speakers.look_up_by_id(api, session_id=session_id, user_id=user_id)
            await asyncio.to_thread(write_files, segments, speakers, settings, engine=redone.engine)
            language = language_of(segments)
        return await publish(
            api,
            settings,
            language=language,
            base_name=base_name,
            on_progress=log_progress,
            before_post=copy.before_post,
        )
