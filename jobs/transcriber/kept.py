"""What stays of a transcribing job after its post surely exists (docs/transcription.md): by default nothing.

It stays in `artifacts/` of the job's directory, where the job service offers it. Sound is kept only where
`KEEP_AUDIO` says so: a transcript can be corrected by whoever was there, a voice is a person's own.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foundation.logs import get_logger
from jobs import job_directory, manifest
from jobs.connection_gaps import FILE_NAME as CONNECTION_NAME
from jobs.transcriber.capture import INDEX_SUFFIX
from jobs.transcriber.document import render
from jobs.transcriber.speakers import FILE_NAME as SPEAKERS_NAME

if TYPE_CHECKING:
    from jobs.transcriber.settings import TranscriberSettings

ARTIFACTS_DIR: Final = "artifacts"
AUDIO_DIR: Final = "audio"
CALL_NAME: Final = "call.json"
"""Beside kept voices: `{"base_name"}`, how the call's files are named."""
_STEM: Final = "transcript"
_log = get_logger(component="artifacts")


def finish_directory(settings: TranscriberSettings) -> None:
    """Keep what is wished and remove the rest. Blocks; never raises."""
    target = settings.directory / ARTIFACTS_DIR
    for name in settings.artifacts.split(","):
        if name:
            _keep(name, settings, target)
    if settings.keep_audio:
        _keep(AUDIO_DIR, settings, target)
    manifest.seal(settings.directory, "kept")
    job_directory.remove(settings.directory, keep=ARTIFACTS_DIR)


def _keep(name: str, settings: TranscriberSettings, target: Path) -> None:
    try:
        if name == AUDIO_DIR:
            _move_audio(settings.directory, target / AUDIO_DIR)
        else:
            _render(name, settings, target)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        _log.warning("artifact.failed", artifact=name, reason=reason)


def _render(kind: str, settings: TranscriberSettings, target: Path) -> None:
    source = settings.directory / f"{_STEM}.json"
    if not source.exists():
        return  # nobody said anything
    document = json.loads(source.read_text(encoding="utf-8"))
    target.mkdir(mode=0o700, exist_ok=True)
    text = render(
        document,
        kind,
        omit_speaker=settings.webvtt_omit_speaker,
        text_options=settings.text_options,
    )
    job_directory.write_private(target / f"{_STEM}.{kind}", text)


def _move_audio(directory: Path, target: Path) -> None:
    """Captures, indexes, who is who, when there was no connection, how the call's files are named; what a
    process that died here has moved already stays."""
    files = [*directory.glob("*.ogg"), *directory.glob(f"*.ogg{INDEX_SUFFIX}")]
    if not files:
        return
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if base_name := job_directory.base_name(directory):
        with suppress(OSError):  # a name must not cost the voices
            job_directory.write_private(target / CALL_NAME, json.dumps({"base_name": base_name}))
    for path in (*files, directory / SPEAKERS_NAME, directory / CONNECTION_NAME):
        if path.exists():
            path.replace(target / path.name)
