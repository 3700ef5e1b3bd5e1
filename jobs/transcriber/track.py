"""`python -m jobs.transcriber track DIR`: one speaker of a call that was captured elsewhere.

`DIR/track.tar` (`jobs.transcriber.track_bundle`) becomes `DIR/result.json`. MODELS_DIR is all it needs of
its environment; it talks to nobody. Progress is in the log (docs/job-contract.md 5). Its standard input is
its lifeline: when that ends, whoever wanted the result is gone, and so is this process.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from foundation.logs import configure_logs, get_logger
from jobs import job_directory
from jobs.transcriber.engines.base import EngineLoadError, SpeechEngine, close_engine
from jobs.transcriber.engines.hints import CallHints
from jobs.transcriber.host import usable_cpus
from jobs.transcriber.models import engine_used, load_transcript_engine, spoken_languages
from jobs.transcriber.redo import log_progress, work_off
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.track_bundle import BundleError, TrackResult, TrackTask, result_text, unpack
from jobs.transcriber.transcript import TranscriptBacklog
from jobs.transcriber.workers import EngineGone

BUNDLE_NAME: Final = "track.tar"
RESULT_NAME: Final = "result.json"
_EXIT_OK: Final = 0
_EXIT_FAILED: Final = 1
_EXIT_UNUSABLE: Final = 2
_ABANDONED: Final = 3
_log = get_logger(component="track")

LoadEngine = Callable[[TranscriberSettings, CallHints], SpeechEngine]
"""Blocks; raises EngineLoadError."""


def main(
    directory: Path,
    environ: Mapping[str, str],
    *,
    load_engine: LoadEngine | None = None,
    lifeline: int | None = 0,
) -> int:
    """0: the result is there. 1: not this time. 2: not on this machine: no such model, or a bundle that
    cannot be read. The last line of the log says why.

    `load_engine`: the engine of the settings unless somebody brings another one. `lifeline`: a descriptor;
    None: this process does not end with its parent.
    """
    configure_logs(level=environ.get("LOG_LEVEL") or "info")
    if lifeline is not None:
        watcher = threading.Thread(target=_end_with, args=(lifeline,), daemon=True)
        watcher.start()
    models_dir = Path(environ.get("MODELS_DIR") or "/models")
    try:
        asyncio.run(_transcribe(directory, models_dir, load_engine or _load))
    except (EngineLoadError, BundleError) as error:
        _log.error("track.failed", reason=str(error))
        return _EXIT_UNUSABLE
    except (EngineGone, OSError) as error:
        _log.error("track.failed", reason=str(error))
        return _EXIT_FAILED
    return _EXIT_OK


async def _transcribe(directory: Path, models_dir: Path, load_engine: LoadEngine) -> None:
    task, captures = await asyncio.to_thread(unpack, directory / BUNDLE_NAME, directory)
    settings = _settings(task, directory, models_dir)
    hints = CallHints()
    hints.told(task.hints)
    engine = await asyncio.to_thread(load_engine, settings, hints)
    try:
        backlog = TranscriptBacklog(
            engine,
            languages=spoken_languages(settings, engine),
            on_progress=lambda: log_progress("transcribe", backlog.pieces_done, backlog.pieces),
        )
        for capture, utterances in captures:
            for utterance in utterances:
                backlog.add(capture, utterance)
        await work_off(backlog, workers=engine.info.workers)
    finally:
        await asyncio.to_thread(close_engine, engine)
    result = TrackResult(engine_used(settings, engine.info), backlog.segments)
    await asyncio.to_thread(
        job_directory.write_private, directory / RESULT_NAME, result_text(result)
    )
    _log.info("track.done", pieces=backlog.pieces, inaudible=backlog.pieces_failed)


def _settings(task: TrackTask, directory: Path, models_dir: Path) -> TranscriberSettings:
    """Of a job that has no site, only an engine."""
    return TranscriberSettings(
        site_url="",
        call_id="",
        post_id="",
        job_id=directory.name,
        auth_token="",
        data_dir=directory.parent,
        models_dir=models_dir,
        model_size=task.model,
        compute_type=task.compute_type,
        languages=task.languages,
        num_threads=max(1, min(task.threads, usable_cpus())),
    )


def _load(settings: TranscriberSettings, hints: CallHints) -> SpeechEngine:
    return load_transcript_engine(settings, hints=hints)


def _end_with(descriptor: int) -> None:
    try:
        while os.read(descriptor, 1024):
            pass
    except OSError:
        pass
    os._exit(_ABANDONED)
