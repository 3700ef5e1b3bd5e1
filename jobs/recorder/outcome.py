"""From the file that was recorded to the post (calls-plugin.md 5.3, 5.4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from callclient.plugin_api import PluginApi
from foundation.logs import get_logger
from foundation.tracebacks import summary
from jobs.job_directory import is_full
from jobs.publication import BeforePost, PublishState
from jobs.recorder.repair import cut_to_playable, playable_bytes
from jobs.recorder.settings import MP4_NAME, PART_NAME, RecorderSettings

if TYPE_CHECKING:
    from jobs.recorder.moments import Moment

_log = get_logger(component="outcome")

Progress = Callable[[str, int, int], None]
"""`(stage, done, total)`."""


class NothingRecorded(Exception):
    """The job died before the first moment of its recording was on disk."""


def anything_recorded(directory: Path) -> bool:
    """Is there anything to publish? Blocks. Raises OSError."""
    return (directory / MP4_NAME).exists() or playable_bytes(directory / PART_NAME) > 0


def complete_file(directory: Path, *, chapters: bool = False) -> Path:
    """Make the file to be uploaded, unless it is there already; with its `chapters`. Blocks.

    Where that fails, as on a full disk, what was written during the call is that file: it plays, only not
    from any place at once.

    Raises:
        NothingRecorded: there is nothing to publish.
        jobs.recorder.mp4.Mp4Error: what was recorded cannot be read.
        OSError: the directory cannot be written.
    """
    from jobs.recorder.moments import read_moments
    from jobs.recorder.mp4 import begins_well

    part, complete = directory / PART_NAME, directory / MP4_NAME
    if not complete.exists():
        if not anything_recorded(directory):
            raise NothingRecorded(f"{directory}: nothing was recorded")
        try:
            _rewrite(part, complete, read_moments(directory) if chapters else [])
        except Exception as error:
            if not (is_full(error) or begins_well(part)):
                raise
            _log.warning("recording.not_rewritten", reason=summary(error))
            cut_to_playable(part)
            part.replace(complete)
    part.unlink(missing_ok=True)
    return complete


def _rewrite(part: Path, complete: Path, moments: list[Moment]) -> None:
    from jobs.recorder.mp4 import finish_mp4

    try:
        finish_mp4(part, complete, moments=moments)
    except Exception as error:
        if not moments or is_full(error):
            raise
        _log.warning("chapters.left_out", reason=type(error).__name__)
        finish_mp4(part, complete)


async def publish(
    api: PluginApi,
    settings: RecorderSettings,
    *,
    base_name: str,
    on_progress: Progress,
    before_post: BeforePost | None = None,
) -> bool:
    """Upload the recording and make the post once.

    Returns whether the post surely exists, so that the files may go. `before_post`: see PublishState.

    Raises:
        ApiError: refused for good; everything is still there.
        OSError, ValueError: the directory cannot be read, or its record of publication is damaged.
    """
    directory = settings.directory
    state = PublishState(directory, before_post=before_post)
    if state.posted:
        return state.certain
    file_id = await state.upload_once(
        api,
        directory / MP4_NAME,
        channel_id=settings.call_id,
        filename=base_name + ".mp4",
        on_progress=lambda done, total: on_progress("upload", done, total),
    )
    on_progress("publish", 0, 1)

    async def post() -> None:
        await api.publish_recording(
            settings.call_id,
            job_id=settings.job_id,
            post_id=settings.post_id,
            file_ids=[file_id],
        )

    async def exists(file_id: str) -> bool:
        return bool(await api.post_of_file(file_id))

    await state.post_once(post, file_id=file_id, exists=exists)
    on_progress("publish", 1, 1)
    _log.info("recording.published", certain=state.certain)
    return state.certain
