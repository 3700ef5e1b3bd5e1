"""The bot's routes that make posts of uploaded files (sections 5.4, 5.5). Neither is idempotent."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from testbed.plugin.answers import read_object, success
from testbed.plugin.calls import Calls
from testbed.plugin.jobs import RequestRefused
from testbed.plugin.posts import NotLinked
from testbed.plugin.server_clock import now_ms
from testbed.plugin.world import User


class Publications:
    """Its methods are handlers."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def recordings(self, user: User, request: Request) -> Response:
        body = await read_object(request)
        files = _file_ids(body.get("FileIDs"))
        _require(body, "PostID")
        if not files:
            raise RequestRefused(400, "invalid FileIDs length")
        _require(body, "JobID")
        archive = self._calls.archive
        call_post = archive.posts.get(str(body["PostID"]))
        if call_post is None:
            raise RequestRefused(500, "post not found")
        await self._before_post()
        archive.publish_recording(
            call_post=call_post, job_id=str(body["JobID"]), file_ids=files, now_ms=now_ms()
        )
        return await self._published()

    async def transcriptions(self, user: User, request: Request) -> Response:
        body = await read_object(request)
        _require(body, "PostID")
        transcriptions = body.get("Transcriptions")
        if not isinstance(transcriptions, list) or not transcriptions:
            raise RequestRefused(400, "invalid Transcriptions length")
        first = transcriptions[0] if isinstance(transcriptions[0], dict) else {}
        if not first.get("Language"):
            raise RequestRefused(400, "language should not be empty")
        files = _file_ids(first.get("FileIDs"))
        if len(files) < 2:
            raise RequestRefused(400, "invalid FileIDs length")
        _require(body, "JobID")
        archive = self._calls.archive
        call_post = archive.posts.get(str(body["PostID"]))
        if call_post is None:
            raise RequestRefused(500, "post not found")
        await self._before_post()
        try:
            archive.publish_transcription(
                call_post=call_post,
                job_id=str(body["JobID"]),
                language=str(first["Language"]),
                title=str(first.get("Title") or ""),
                file_ids=files,
                now_ms=now_ms(),
            )
        except NotLinked as error:  # after the post was made (trap 36)
            raise RequestRefused(500, str(error)) from None
        return await self._published()

    async def _before_post(self) -> None:
        faults = self._calls.faults
        await asyncio.sleep(faults.publish_delay_ms / 2000)
        if faults.take("refuse_publications"):
            raise RequestRefused(503, "not now")

    async def _published(self) -> Response:
        await asyncio.sleep(self._calls.faults.publish_delay_ms / 2000)
        if self._calls.faults.take("lose_publish_answers"):
            raise RequestRefused(500, "failed after the post was made")
        return success()


def _require(body: dict[str, Any], name: str) -> None:
    if not body.get(name):
        raise RequestRefused(400, f"{name} should not be empty")


def _file_ids(value: Any) -> list[str]:
    return [str(v) for v in value if v] if isinstance(value, list) else []
