"""From segments to the two files and their post (calls-plugin.md 5.5, 8)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from callclient.plugin_api import PluginApi
from foundation.logs import get_logger
from jobs.job_directory import write_private
from jobs.publication import BeforePost, PublishState
from jobs.transcriber.capture import find_captures
from jobs.transcriber.document import render, to_document
from jobs.transcriber.losses import lost_connections, lost_packets
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.transcript import Segment

VTT_NAME: Final = "transcript.vtt"
TEXT_NAME: Final = "transcript.txt"
JSON_NAME: Final = "transcript.json"
"""See `jobs.transcriber.document`; stays here."""
_log = get_logger(component="outcome")

Progress = Callable[[str, int, int], None]
"""`(stage, done, total)`."""


class NothingUnderstood(ValueError):
    """Something was said, and no piece of it could be transcribed. The message has the first reason."""


def check_understood(segments: Sequence[Segment]) -> None:
    """A transcript of `[inaudible]` alone is not published: with its post the sound would go.

    Raises:
        NothingUnderstood: there is no text, only failures.
    """
    failures = [segment.failure for segment in segments if segment.failure]
    if failures and len(failures) == len(segments):
        raise NothingUnderstood(
            f"none of {len(failures)} pieces could be transcribed: {failures[0]}"
        )


def write_files(
    segments: list[Segment],
    speakers: SpeakerDirectory,
    settings: TranscriberSettings,
    *,
    engine: Mapping[str, str] | None = None,
) -> None:
    """All files, each complete or absent, the text last. Blocks. Raises OSError.

    `engine`: which one it was (`jobs.transcriber.models.engine_used`).
    """
    directory = settings.directory
    lost = [*lost_connections(directory), *lost_packets(find_captures(directory))]
    document = to_document(segments, speakers, lost_audio=lost, engine=engine)
    write_private(directory / JSON_NAME, render(document, "json"))
    vtt = render(document, "vtt", omit_speaker=settings.webvtt_omit_speaker)
    write_private(directory / VTT_NAME, vtt)
    text = render(document, "txt", text_options=settings.text_options)
    write_private(directory / TEXT_NAME, text)


def written_language(directory: Path) -> str | None:
    """The language of the files if all of them are there, else None. Blocks."""
    try:
        document = json.loads((directory / JSON_NAME).read_text(encoding="utf-8"))
        complete = (directory / VTT_NAME).is_file() and (directory / TEXT_NAME).is_file()
        return str(document["language"]) if complete else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


async def publish(
    api: PluginApi,
    settings: TranscriberSettings,
    *,
    language: str,
    base_name: str,
    on_progress: Progress,
    directory: Path | None = None,
    before_post: BeforePost | None = None,
) -> bool:
    """Upload what is in the job's directory, or in `directory`, VTT first, and make the post once.

    Returns whether the post surely exists, so that the files may go. `before_post`: see PublishState.

    Raises:
        ApiError: refused for good; everything is still there.
        OSError, ValueError: the directory cannot be read, or its record of publication is damaged.
    """
    directory = directory or settings.directory
    state = PublishState(directory, before_post=before_post)
    if state.posted:
        return state.certain
    on_progress("upload", 0, 2)
    file_ids: list[str] = []
    for name, ending in ((VTT_NAME, ".vtt"), (TEXT_NAME, ".txt")):
        file_id = await state.upload_once(
            api, directory / name, channel_id=settings.call_id, filename=base_name + ending
        )
        file_ids.append(file_id)
        on_progress("upload", len(file_ids), 2)
    on_progress("publish", 0, 1)

    async def post() -> None:
        await api.publish_transcription(
            settings.call_id,
            job_id=settings.job_id,
            post_id=settings.post_id,
            language=language,
            file_ids=file_ids,
        )

    async def exists(file_id: str) -> bool:
        return bool(await api.post_of_file(file_id))

    # The text is what the post carries; the VTT is attached to the call's own post before it is made.
    await state.post_once(post, file_id=file_ids[-1], exists=exists)
    on_progress("publish", 1, 1)
    _log.info("transcript.published", certain=state.certain)
    return state.certain
