"""Resumable uploads with the server's limits (section 5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.plugin.posts import Archive, StoredFile
from testbed.plugin.world import User, random_id

MIN_FIRST_PART_BYTES = 5 * 1024 * 1024


class UploadRefused(Exception):
    """The request is refused; `status` and the Mattermost error id."""

    def __init__(self, status: int, error_id: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_id = error_id
        self.message = message


@dataclass(slots=True)
class Upload:
    """One session."""

    upload_id: str
    user_id: str
    channel_id: str
    filename: str
    size_bytes: int
    create_at: int
    path: Path
    offset_bytes: int = 0
    busy: bool = False

    def public(self) -> dict[str, Any]:
        return {
            "id": self.upload_id,
            "type": "attachment",
            "create_at": self.create_at,
            "user_id": self.user_id,
            "channel_id": self.channel_id,
            "filename": self.filename,
            "file_size": self.size_bytes,
            "file_offset": self.offset_bytes,
            "remote_id": "",
            "req_file_id": "",
        }


class Uploads:
    """All sessions; finished ones become files of the archive and are gone here."""

    def __init__(self, directory: Path, archive: Archive, *, max_file_size_bytes: int) -> None:
        self._directory = directory
        self._directory.mkdir(parents=True, exist_ok=True)
        self._archive = archive
        self.max_file_size_bytes = max_file_size_bytes
        """FileSettings.MaxFileSize: what one request stores at most."""
        self.open: dict[str, Upload] = {}

    def create(self, user: User, channel_id: str, filename: str, size: int, now_ms: int) -> Upload:
        """Raises UploadRefused."""
        if not filename or size <= 0:
            raise UploadRefused(400, "model.upload_session.is_valid", "invalid upload session")
        upload_id = random_id()
        upload = Upload(
            upload_id, user.user_id, channel_id, filename, size, now_ms, self._directory / upload_id
        )
        upload.path.touch()
        self.open[upload_id] = upload
        return upload

    def get(self, upload_id: str) -> Upload:
        """Raises UploadRefused 404 for an unknown or finished one."""
        upload = self.open.get(upload_id)
        if upload is None:
            raise UploadRefused(404, "app.upload.get.app_error", "upload not found")
        return upload

    async def receive(
        self, user: User, upload_id: str, body: AsyncIterator[bytes], *, damage: bool = False
    ) -> StoredFile | None:
        """Store what fits; the file when it is complete, None when more is wanted.

        `damage` loses the part's content but counts its bytes, as broken storage would.
        """
        upload = self.get(upload_id)
        if upload.user_id != user.user_id:
            raise UploadRefused(403, "api.context.permissions.app_error", "not your upload")
        if upload.busy:
            raise UploadRefused(400, "app.upload.upload_data.concurrent", "upload in progress")
        upload.busy = True
        try:
            part = await _read_at_most(
                body, min(self.max_file_size_bytes, upload.size_bytes - upload.offset_bytes)
            )
            is_first_of_several = upload.offset_bytes == 0 and len(part) < upload.size_bytes
            if is_first_of_several and len(part) < MIN_FIRST_PART_BYTES:
                raise UploadRefused(
                    400,
                    "app.upload.upload_data.first_part_too_small.app_error",
                    "first part is too small",
                )
            await asyncio.to_thread(_append, upload.path, bytes(len(part)) if damage else part)
            upload.offset_bytes += len(part)
        finally:
            upload.busy = False
        if upload.offset_bytes < upload.size_bytes:
            return None
        del self.open[upload_id]
        return await asyncio.to_thread(self._archive.add_file, upload.path, upload.filename)


async def _read_at_most(body: AsyncIterator[bytes], limit: int) -> bytes:
    """The first `limit` bytes; surplus is cut off in silence (trap 35)."""
    data = bytearray()
    async for chunk in body:
        data += chunk[: limit - len(data)]
        if len(data) >= limit:
            break
    return bytes(data)


def _append(path: Path, part: bytes) -> None:
    with path.open("ab") as file:
        file.write(part)
