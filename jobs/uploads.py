"""Uploads a file in resumable parts (calls-plugin.md 5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from callclient.plugin_api import ApiError, PluginApi
from foundation.logs import get_logger
from foundation.retry import Backoff
from foundation.spans import current_span
from jobs.part_size import PartSize

PATIENCE_S: Final = 900.0
"""Without any progress for so long, the upload is left to `salvage` (docs/job-contract.md 4)."""
_CHUNK_BYTES: Final = 256 * 1024
"""What is in memory of the file at a time, whatever the size of a part."""
_BACKOFF: Final = Backoff(attempts=1, first_wait_s=1.0, growth=1.5, max_wait_s=30.0)
LONGEST_WAIT_S: Final = 300.0
"""However long the server wants to be left alone."""
_GONE: Final = frozenset({404, 410})
_DATA_REFUSALS: Final = 4
"""So often in a row 400 is believed: it is also the answer while the server still works on a request whose
connection broke, or when it and we disagree about the offset."""
_SESSIONS: Final = 8
"""An upload that is begun anew so often without an end will not end."""

Progress = Callable[[int, int], None]
"""`(bytes done, bytes in all)`."""


class Uploader:
    """Sends files; asks the server where to go on instead of assuming (trap 34)."""

    def __init__(
        self,
        api: PluginApi,
        *,
        patience_s: float = PATIENCE_S,
        backoff: Backoff = _BACKOFF,
        on_progress: Progress | None = None,
    ) -> None:
        """Of `backoff` only the waits count: what ends the upload is `patience_s` without progress."""
        self._api = api
        self._patience_s = patience_s
        self._backoff = backoff
        self._on_progress = on_progress
        self._log = get_logger(component="upload")

    async def upload(
        self,
        path: Path,
        *,
        channel_id: str,
        filename: str,
        resume: str | None = None,
        on_session: Callable[[str], None] | None = None,
    ) -> str:
        """Upload a file; returns its id on the server.

        Broken connections, stalls, 429 and 5xx are waited out and the upload goes on where the server is; a
        session that is gone is made anew. `resume` is the session of an earlier process; `on_session` is told
        of each new one, in a thread, before its first byte is sent.

        Raises:
            ApiError: refused for good, or no progress for too long. The file is untouched.
            OSError: the file cannot be read.
        """
        size = (await asyncio.to_thread(path.stat)).st_size
        span, retries = current_span(), 0
        span.note({"calls.file.bytes": size})
        running = _Running(
            path,
            channel_id,
            filename,
            size,
            on_session,
            upload_id=resume or "",
            is_resumed=bool(resume),
        )
        while True:
            try:
                return await self._go_on(running)
            except ApiError as error:
                wait_s = self._judge(running, error)
            retries += 1
            span.note({"calls.upload.retries": retries})
            self._log.warning(
                "upload.retry",
                failures=running.failures,
                status=running.status,
                wait_s=round(wait_s, 1),
            )
            await asyncio.sleep(wait_s)

    async def _go_on(self, running: _Running) -> str:
        """From where the server is to the end. Raises ApiError."""
        offset = await self._offset(running)
        while True:
            running.at(offset)
            self._progress(offset, running.size)
            length = running.parts.next_bytes(offset, running.size)
            if length <= 0:
                raise ApiError(
                    f"the server is at byte {offset} of {running.size} and wants more",
                    status=None,
                    retryable=False,
                )
            started = _now_s()
            running.sending = length
            file_id = await self._api.send_upload_data(
                running.upload_id, _chunks(running.path, offset, length), length_bytes=length
            )
            running.sending = 0
            self._log.info("upload.part", bytes=length, duration_s=round(_now_s() - started, 3))
            if file_id is not None:
                self._progress(running.size, running.size)
                return file_id
            # 204: the server may have kept less than was sent (trap 35).
            now_at = (await self._api.get_upload(running.upload_id)).file_offset_bytes
            if now_at <= offset:
                raise ApiError(
                    f"the server did not take the part at byte {offset}",
                    status=204,
                    retryable=True,
                )
            running.parts.taken(length, now_at - offset)
            offset = now_at

    async def _offset(self, running: _Running) -> int:
        if running.upload_id:
            session = await self._api.get_upload(running.upload_id)
            if session.file_size_bytes == running.size:
                if running.broken:
                    running.parts.broke(session.file_offset_bytes - running.offset)
                return session.file_offset_bytes
            running.forget()  # another file's
        session = await self._api.create_upload(
            running.channel_id, filename=running.filename, file_size_bytes=running.size
        )
        running.began(session.id)
        if running.on_session is not None:
            await asyncio.to_thread(running.on_session, session.id)
        return session.file_offset_bytes

    def _judge(self, running: _Running, error: ApiError) -> float:
        """How long to wait before the next attempt. Raises `error` when there shall be none."""
        now_s = _now_s()
        running.failures += 1
        running.status = error.status
        if now_s - running.progress_s > self._patience_s:
            raise error
        if error.status in _GONE and running.upload_id:
            # Also what comes after a lost answer to the last part: then it is sent once more.
            if running.sessions >= _SESSIONS:
                raise error
            running.forget()
        elif error.status == 413 and running.sending:
            if not running.parts.too_large(running.sending, running.offset):
                raise error
            return 0.0
        elif error.status in (400, 403) and running.is_resumed:
            running.forget()  # it belongs to somebody who is no more
        elif error.status == 400 and running.sending:
            running.refusals += 1
            if running.refusals >= _DATA_REFUSALS:
                raise error
        elif not error.retryable:
            raise error
        elif running.sending and error.status is None and not error.surely_not_arrived:
            running.broken = True
        wait_s = self._backoff.wait_s(min(running.failures, 30))
        return max(wait_s, min(error.retry_after_s or 0.0, LONGEST_WAIT_S))

    def _progress(self, done: int, total: int) -> None:
        if self._on_progress is not None:
            self._on_progress(done, total)


@dataclass(slots=True)
class _Running:
    """One file on its way."""

    path: Path
    channel_id: str
    filename: str
    size: int
    on_session: Callable[[str], None] | None
    upload_id: str
    is_resumed: bool
    """The session is another process's and has not yet answered."""
    parts: PartSize = field(default_factory=PartSize)
    offset: int = -1
    """Where the server was last."""
    sending: int = 0
    """Bytes of the part whose answer is not known."""
    broken: bool = False
    """Its connection broke."""
    sessions: int = 0
    failures: int = 0
    """In a row, without progress."""
    refusals: int = 0
    status: int | None = None
    progress_s: float = field(default_factory=lambda: _now_s())

    def at(self, offset: int) -> None:
        self.is_resumed = False
        if offset > self.offset:
            self.failures, self.refusals, self.progress_s = 0, 0, _now_s()
        self.offset, self.sending, self.broken = offset, 0, False

    def began(self, upload_id: str) -> None:
        self.upload_id, self.sessions = upload_id, self.sessions + 1

    def forget(self) -> None:
        """The session is of no use any more."""
        self.upload_id, self.is_resumed = "", False
        self.offset, self.sending, self.broken = -1, 0, False


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _chunks(path: Path, offset: int, length: int) -> AsyncIterator[bytes]:
    """`length` bytes of the file from `offset` on. Raises OSError when they are not there."""
    with await asyncio.to_thread(path.open, "rb") as file:
        await asyncio.to_thread(file.seek, offset)
        while length:
            chunk = await asyncio.to_thread(file.read, min(length, _CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{path}: became shorter while it was uploaded")
            length -= len(chunk)
            yield chunk
