"""Uploads a file in resumable parts (calls-plugin.md 5.3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from callclient.plugin_api import ApiError, PluginApi
from foundation.logs import get_logger
from foundation.retry import Backoff

MIN_FIRST_PART_BYTES = 5 * 1024 * 1024
PART_BYTES = 8 * 1024 * 1024
"""Above the 5 MiB that the first part must have, and small enough to lose little when a connection breaks."""
_BACKOFF = Backoff(attempts=20, first_wait_s=1.0, growth=1.5, max_wait_s=30.0)
_GONE = frozenset({404, 410})

Progress = Callable[[int, int], None]
"""`(bytes done, bytes in all)`."""


class Uploader:
    """Sends files; asks the server where to go on instead of assuming (trap 34)."""

    def __init__(
        self,
        api: PluginApi,
        *,
        part_size_bytes: int = PART_BYTES,
        backoff: Backoff = _BACKOFF,
        on_progress: Progress | None = None,
    ) -> None:
        if part_size_bytes < MIN_FIRST_PART_BYTES:
            raise ValueError(
                f"part_size_bytes = {part_size_bytes}: should be at least {MIN_FIRST_PART_BYTES}"
            )
        self._api = api
        self._part_bytes = part_size_bytes
        self._backoff = backoff
        self._on_progress = on_progress
        self._log = get_logger(component="upload")

    async def upload(self, path: Path, *, channel_id: str, filename: str) -> str:
        """Upload a file; returns its id on the server.

        Broken connections, 429 and 5xx are waited out and the upload goes on where the server is; a
        session that is gone is made anew.

        Raises:
            ApiError: refused for good, or attempts ran out. The file is untouched.
            OSError: the file cannot be read.
        """
        size = (await asyncio.to_thread(path.stat)).st_size
        upload_id = ""
        failures = 0
        offset_before = -1
        while True:
            try:
                if not upload_id:
                    session = await self._api.create_upload(
                        channel_id, filename=filename, file_size_bytes=size
                    )
                    upload_id, offset = session.id, session.file_offset_bytes
                else:
                    offset = (await self._api.get_upload(upload_id)).file_offset_bytes
                if offset > offset_before:
                    offset_before, failures = offset, 0
                return await self._send_from(path, upload_id, offset, size)
            except ApiError as error:
                failures += 1
                gone = error.status in _GONE and bool(upload_id)
                if failures >= self._backoff.attempts or not (error.retryable or gone):
                    raise
                if gone:
                    upload_id, offset_before = "", -1
                self._log.warning("upload.retry", failures=failures, status=error.status)
            await asyncio.sleep(self._backoff.wait_s(failures))

    async def _send_from(self, path: Path, upload_id: str, offset: int, size: int) -> str:
        while True:
            self._progress(offset, size)
            part = await asyncio.to_thread(_read_part, path, offset, self._part_bytes)
            if not part:
                raise ApiError(
                    f"the server is at byte {offset} of {size} and wants more",
                    status=None,
                    retryable=False,
                )
            started = time.monotonic()
            file_id = await self._api.send_upload_data(upload_id, part, length_bytes=len(part))
            self._log.info(
                "upload.part", bytes=len(part), duration_s=round(time.monotonic() - started, 3)
            )
            if file_id is not None:
                self._progress(size, size)
                return file_id
            # 204: the server may have kept less than was sent (trap 35).
            now_at = (await self._api.get_upload(upload_id)).file_offset_bytes
            if now_at <= offset:
                raise ApiError(
                    f"the server did not take the part at byte {offset}",
                    status=204,
                    retryable=True,
                )
            offset = now_at

    def _progress(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(done, total)


def _read_part(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
