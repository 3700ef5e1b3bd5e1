"""From segments to the two files and their post (calls-plugin.md 5.5, 8)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from callclient.plugin_api import PluginApi
from foundation.logs import get_logger
from jobs.job_directory import safe_name, write_private
from jobs.publication import PublishState
from jobs.transcriber.formats.cues import Cue
from jobs.transcriber.formats.text import render_text
from jobs.transcriber.formats.webvtt import render_webvtt
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.transcript import Segment
from jobs.uploads import Uploader

VTT_NAME: Final = "transcript.vtt"
TEXT_NAME: Final = "transcript.txt"
JSON_NAME: Final = "transcript.json"
"""Segments with words, probabilities and reasons of failure; stays here."""
_NS_PER_MS: Final = 1_000_000
_log = get_logger(component="outcome")

Progress = Callable[[str, int, int], None]
"""`(stage, done, total)`."""


def to_cues(segments: Iterable[Segment], speakers: SpeakerDirectory) -> list[Cue]:
    """One cue per segment, under the speaker's display name."""
    cues = []
    for segment in segments:
        start_ms = segment.start_ns // _NS_PER_MS
        end_ms = max(segment.end_ns // _NS_PER_MS, start_ms + 1)
        cues.append(Cue(start_ms, end_ms, speakers.name(segment.session_id), segment.text))
    return cues


def language_of(segments: Iterable[Segment]) -> str:
    """The first one found, `en` when there is none (calls-plugin.md 8.5)."""
    return next((segment.language for segment in segments if segment.language), "en")


def write_files(
    segments: list[Segment], speakers: SpeakerDirectory, settings: TranscriberSettings
) -> None:
    """All files, each complete or absent, the text last. Blocks. Raises OSError."""
    cues = to_cues(segments, speakers)
    document = {
        "language": language_of(segments),
        "segments": [asdict(segment) for segment in segments],
    }
    write_private(settings.directory / JSON_NAME, json.dumps(document, ensure_ascii=False))
    vtt = render_webvtt(cues, omit_speaker=settings.webvtt_omit_speaker)
    write_private(settings.directory / VTT_NAME, vtt)
    write_private(settings.directory / TEXT_NAME, render_text(cues, settings.text_options))


def written_language(directory: Path) -> str | None:
    """The language of the files if all of them are there, else None. Blocks."""
    try:
        document = json.loads((directory / JSON_NAME).read_text(encoding="utf-8"))
        complete = (directory / VTT_NAME).is_file() and (directory / TEXT_NAME).is_file()
        return str(document["language"]) if complete else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def publish(
    api: PluginApi,
    settings: TranscriberSettings,
    *,
    language: str,
    base_name: str,
    on_progress: Progress,
) -> bool:
    """Upload what is in the job's directory, VTT first, and make the post once.

    Returns whether the post surely exists, so that the files may go.

    Raises:
        ApiError: refused for good; everything is still there.
        OSError, ValueError: the directory cannot be read, or its record of publication is damaged.
    """
    directory = settings.directory
    state = PublishState(directory)
    on_progress("upload", 0, 2)
    file_ids: list[str] = []
    for name, ending in ((VTT_NAME, ".vtt"), (TEXT_NAME, ".txt")):
        file_id = state.file_id(name)
        if file_id is None and not state.posted:
            file_id = await Uploader(api).upload(
                directory / name,
                channel_id=settings.call_id,
                filename=safe_name(base_name) + ending,
            )
            await asyncio.to_thread(state.uploaded, name, file_id)
        file_ids.append(file_id or "")
        on_progress("upload", len(file_ids), 2)
    on_progress("publish", 0, 1)
    await state.post_once(
        lambda: api.publish_transcription(
            settings.call_id,
            job_id=settings.job_id,
            post_id=settings.post_id,
            language=language,
            file_ids=file_ids,
        )
    )
    on_progress("publish", 1, 1)
    _log.info("transcript.published", certain=state.certain)
    return state.certain
