"""What can happen to a part of an upload on its way, as `testbed.plugin.faults` asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from testbed.plugin.faults import Faults
from testbed.plugin.uploads import Uploads

_CHUNK_BYTES: Final = 64 * 1024
_STALL_S: Final = 600.0


class ConnectionCut(Exception):
    """Raised in an answer under way: the server closes the connection."""


async def refuse_part(faults: Faults, uploads: Uploads, request: Request) -> Response | None:
    """The answer to a part that is not to be stored, or None."""
    length = int(request.headers.get("content-length") or 0)
    if 0 < faults.too_large_upload_bytes < length:
        return PlainTextResponse("request entity too large\n", status_code=413)
    if faults.take("limit_upload_parts"):
        return PlainTextResponse("slow down\n", status_code=429, headers={"Retry-After": "1"})
    if faults.take("contradict_upload_parts"):
        return PlainTextResponse("upload in progress\n", status_code=400)
    if faults.take("forget_uploads"):
        uploads.open.pop(request.path_params["upload_id"], None)
    if faults.take("stall_upload_parts"):
        await _until_left(request)
    return None


async def body(faults: Faults, request: Request) -> AsyncIterator[bytes]:
    """The part's bytes, slowed down or cut in half."""
    left: int | None = None
    if faults.take("cut_upload_parts"):
        left = int(request.headers["content-length"]) // 2
    async for chunk in request.stream():
        if faults.upload_chunk_delay_ms:
            await asyncio.sleep(faults.upload_chunk_delay_ms / 1000 * len(chunk) / _CHUNK_BYTES)
        if left is not None:
            chunk, left = chunk[:left], left - len(chunk[:left])
        if chunk:
            yield chunk
        if left == 0:
            return


def cut() -> Response:
    """An answer that breaks off before it says anything."""

    async def nothing() -> AsyncIterator[bytes]:
        raise ConnectionCut
        yield b""

    return StreamingResponse(nothing(), headers={"Content-Length": "1"})


async def _until_left(request: Request) -> None:
    async with asyncio.timeout(_STALL_S):
        while (await request.receive())["type"] != "http.disconnect":
            pass  # a part that nobody wants
