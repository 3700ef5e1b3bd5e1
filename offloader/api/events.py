"""`GET /events`: server-sent events of what becomes of the client's jobs."""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse

from clientauth.service import ClientAuth, Identity
from clientauth.turns import source
from foundation.channel import ChannelClosed
from offloader.api.deps import client_of
from offloader.api.schemas import details_document
from offloader.events import JobEvents, Listener
from offloader.models import Job

HEARTBEAT_S = 15.0
"""A comment, so that proxies do not take a quiet stream for a dead one."""


def event_router(
    events: JobEvents, auth: ClientAuth, *, count_dropped: Callable[[int], None]
) -> APIRouter:
    router = APIRouter()

    @router.get("/events")
    async def listen(
        client: Annotated[Identity, Depends(client_of(auth, may_register=False))],
    ) -> Response:
        sender = source()
        events.check_room(client, sender)

        async def stream() -> AsyncIterator[bytes]:
            async with events.listen(client, sender) as listener:
                async for part in _parts(listener, client, count_dropped):
                    yield part
                    await asyncio.sleep(events.pause_s)

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)

    return router


async def _parts(
    listener: Listener, client: Identity, count_dropped: Callable[[int], None]
) -> AsyncIterator[bytes]:
    yield b": what becomes of your jobs, beginning with those that live now\n\n"
    while True:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                some = await listener.some()
        except TimeoutError:
            yield b": still here\n\n"
            continue
        except ChannelClosed:
            yield b"event: end\ndata: {}\n\n"
            return
        if dropped := listener.newly_dropped():
            count_dropped(dropped)
            yield _event("dropped", {"count": dropped})
        yield b"".join([told.text(client, _job_event) for told in some])


def _job_event(job: Job, client: Identity) -> bytes:
    return _event("job", details_document(job, client=client))


def _event(name: str, document: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(document, separators=(',', ':'))}\n\n".encode()
