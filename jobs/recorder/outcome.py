"""From the file that was recorded to the post (calls-plugin.md 5.3, 5.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from callclient.plugin_api import PluginApi
from foundation.logs import get_logger
from jobs.job_directory import safe_name
from jobs.publication import PublishState
from jobs.recorder.settings import RecorderSettings
from jobs.uploads import Uploader

PART_NAME: Final = "recording.part.mp4"
"""Written during the call."""
MP4_NAME: Final = "recording.mp4"
"""Complete, with the index in front."""
_log = get_logger(component="outcome")

Progress = Callable[[str, int, int], None]
"""`(stage, done, total)`."""


def complete_file(directory: Path) -> Path:
    """Make the file to be uploaded, unless it is there already. Blocks.

    Raises:
        jobs.recorder.mp4.Mp4Error: nothing playable was recorded, or the disk refused the copy.
    """
    from jobs.recorder.mp4 import finish_mp4

    part, complete = directory / PART_NAME, directory / MP4_NAME
    if not complete.exists():
        finish_mp4(part, complete)
    part.unlink(missing_ok=True)
    return complete


async def publish(
    api: PluginApi, settings: RecorderSettings, *, base_name: str, on_progress: Progress
) -> bool:
    """Upload the recording and make the post once.

    Returns whether the post surely exists, so that the files may go.

    Raises:
        ApiError: refused for good; everything is still there.
        OSError, ValueError: the directory cannot be read, or its record of publication is damaged.
    """
    directory = settings.directory
    state = PublishState(directory)
    file_id = state.file_id(MP4_NAME)
    if file_id is None and not state.posted:
        uploader = Uploader(api, on_progress=lambda done, total: on_progress("upload", done, total))
        file_id = await uploader.upload(
            directory / MP4_NAME,
            channel_id=settings.call_id,
            filename=safe_name(base_name) + ".mp4",
        )
        await asyncio.to_thread(state.uploaded, MP4_NAME, file_id)
    on_progress("publish", 0, 1)
    await state.post_once(
        lambda: api.publish_recording(
            settings.call_id,
            job_id=settings.job_id,
            post_id=settings.post_id,
            file_ids=[file_id or ""],
        )
    )
    on_progress("publish", 1, 1)
    _log.info("recording.published", certain=state.certain)
    return state.certain
