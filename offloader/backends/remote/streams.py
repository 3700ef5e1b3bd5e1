"""Bytes that a door sends on: whole, or visibly cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from fastapi.responses import Response, StreamingResponse

from offloader.api.streams import until
from offloader.errors import BackendError

BYTES: Final = "application/octet-stream"


async def streamed(chunks: AsyncIterator[bytes], closing: asyncio.Event | None = None) -> Response:
    """An error before the first chunk is raised and becomes an answer; one after it breaks the connection.
    `closing`: see `to_the_end`."""
    try:
        first = await anext(chunks)
    except StopAsyncIteration:
        return Response(b"", media_type=BYTES)

    async def all_of_them() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    whole = all_of_them() if closing is None else to_the_end(all_of_them(), closing)
    return StreamingResponse(whole, media_type=BYTES)


async def to_the_end(chunks: AsyncIterator[bytes], closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Half a file must not look like a whole one: the connection breaks when the worker ends.

    Raises:
        BackendError: `closing` was set before the end.
    """
    ended = False

    async def until_ended() -> AsyncIterator[bytes]:
        nonlocal ended
        async for chunk in chunks:
            yield chunk
        ended = True

    async for chunk in until(closing, until_ended()):
        yield chunk
    if not ended:
        raise BackendError("the worker is ending")
