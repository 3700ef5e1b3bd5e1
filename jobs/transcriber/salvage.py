"""`python -m jobs.transcriber salvage DIR`: finish a dead job from what it left on disk."""

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
from jobs.settings import SettingsError
from jobs.transcriber.capture import find_captures
from jobs.transcriber.engines.base import EngineLoadError
from jobs.transcriber.engines.catalogue import find_model, load_engine, plan_workers
from jobs.transcriber.outcome import language_of, publish, write_files, written_language
from jobs.transcriber.redo import transcribe_captures
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.transcript import Segment
from jobs.transcriber.vad import load_silero

_EXIT_OK: Final = 0
_EXIT_USAGE: Final = 2
_OVERRIDES: Final = {
    "SITE_URL": "site_url",
    "MODELS_DIR": "models_dir",
    "MODEL_SIZE": "model_size",
}
_log = get_logger(component="salvage")


def main(directory: Path, environ: Mapping[str, str]) -> int:
    """0: posted, or nothing to post. 1: not posted, everything is still there. 2: no such job. 3: refused for
    good."""
    configure_logs(level=environ.get("LOG_LEVEL") or "info")
    try:
        settings, base_name = job_directory.load(
            TranscriberSettings, directory, environ, overrides=_OVERRIDES
        )
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT_USAGE
    try:
        asyncio.run(_salvage(settings, base_name))
    except (ApiError, EngineLoadError, OSError, ValueError) as error:
        _log.error("salvage.failed", reason=str(error))
        return salvage_exit_code(error)
    return _EXIT_OK


async def _salvage(settings: TranscriberSettings, base_name: str) -> None:
    directory = settings.directory
    async with PluginApi(
        site_url=settings.site_url, auth_token=settings.auth_token, ca_file=settings.ca_file
    ) as api:
        # What the dead job had written and perhaps uploaded is not made again.
        language = await asyncio.to_thread(written_language, directory)
        if language is None:
            segments = await _transcribe(settings)
            if not segments:
                _log.info("transcript.empty")
                return
            speakers = await asyncio.to_thread(SpeakerDirectory.load, directory)
            for session_id, user_id in {(s.session_id, s.user_id) for s in segments}:
                await speakers.look_up_by_id(api, session_id=session_id, user_id=user_id)
            await asyncio.to_thread(write_files, segments, speakers, settings)
            language = language_of(segments)
        certain = await publish(
            api, settings, language=language, base_name=base_name, on_progress=_progress
        )
    if certain:
        await asyncio.to_thread(job_directory.remove, directory)


async def _transcribe(settings: TranscriberSettings) -> list[Segment]:
    captures = await asyncio.to_thread(find_captures, settings.directory)
    workers, threads_per_worker = plan_workers(settings.threads)
    engine = await asyncio.to_thread(
        load_engine,
        find_model(settings.models_dir, settings.model_size),
        workers=workers,
        threads_per_worker=threads_per_worker,
    )
    return await transcribe_captures(
        captures,
        engine=engine,
        voice_activity=await asyncio.to_thread(load_silero),
        workers=workers,
        on_progress=lambda done, total: _progress("transcribe", done, total),
    )


def _progress(stage: str, done: int, total: int) -> None:
    _log.info("progress", stage=stage, done=done, total=total)
