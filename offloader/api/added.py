"""The job routes beside the reference's: lists, stop, files, publication. None ever registers anybody."""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from clientauth.http import error_response
from clientauth.service import ClientAuth, Identity
from foundation.logs import get_logger
from offloader.api.bodies import read_model
from offloader.api.deps import client_of, known_id
from offloader.api.errors import json_document
from offloader.api.queries import choice, moment, page_size, text
from offloader.api.ranges import ByteRange, Unsatisfiable, wanted_range
from offloader.api.schemas import RepublishRequest, RetranscribeRequest, details_document
from offloader.errors import BackendError
from offloader.models import JobState, JobType
from offloader.service import JobService

_PAGE = 50

log = get_logger()


def added_job_router(service: JobService, auth: ClientAuth) -> APIRouter:
    """`GET /jobs`, and below a job: `stop`, `artifacts`, `republish`, `retranscribe`."""
    router = APIRouter()
    Client = Annotated[Identity, Depends(client_of(auth, may_register=False))]
    JobId = Annotated[str, Depends(known_id)]

    @router.get("/jobs")
    async def list_jobs(request: Request, client: Client) -> Response:
        page = await service.list_jobs(
            client=client,
            job_type=choice(request, "type", JobType),
            state=choice(request, "state", JobState),
            since=moment(request, "since"),
            before=text(request, "before"),
            limit=page_size(request, "limit", _PAGE),
        )
        document = {
            "jobs": [details_document(job, client=client) for job in page.jobs],
            "next": page.next,
        }
        return json_document(document)

    @router.post("/jobs/{job_id}/stop")
    async def stop(client: Client, job_id: JobId) -> Response:
        job = await service.stop(job_id, client=client)
        ending = job.live or job.retranscribing
        return json_document(details_document(job, client=client), status=202 if ending else 200)

    @router.get("/jobs/{job_id}/artifacts")
    async def artifacts(client: Client, job_id: JobId) -> Response:
        found = await service.artifacts(job_id, client=client)
        files = [{"name": file.name, "size_bytes": file.size_bytes} for file in found]
        return JSONResponse({"artifacts": files})

    @router.get("/jobs/{job_id}/artifacts/{name:path}")
    async def artifact(request: Request, client: Client, job_id: JobId, name: str) -> Response:
        file, content_from = await service.open_artifact(job_id, name, client=client)
        etag = f'"{file.version}"' if file.version else ""
        size_bytes = file.size_bytes
        try:
            wanted = wanted_range(request.headers, size_bytes=size_bytes, etag=etag)
        except Unsatisfiable:
            refusal = error_response(416, f"no such range: the file has {size_bytes} bytes")
            refusal.headers["Content-Range"] = f"bytes */{size_bytes}"
            return refusal
        part = wanted or ByteRange(0, size_bytes)
        headers = {
            "Content-Length": str(part.end - part.start),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(_last_part(name))}",
            "X-Content-Type-Options": "nosniff",
            "Accept-Ranges": "bytes",
        }
        if etag:
            headers["ETag"] = etag
        if wanted is not None:
            headers["Content-Range"] = wanted.content_range(size_bytes)
        content = _exactly(content_from(part.start), part.end - part.start)
        # Before the answer begins: what has gone meanwhile, or become a link, is refused and not broken off.
        first = await anext(content, b"")
        return StreamingResponse(
            _chained(first, content),
            status_code=200 if wanted is None else 206,
            media_type="application/octet-stream",
            headers=headers,
        )

    @router.post("/jobs/{job_id}/republish")
    async def republish(request: Request, client: Client, job_id: JobId) -> Response:
        wanted = await read_model(request, RepublishRequest, may_be_empty=True)
        token = wanted.auth_token or None
        job = await service.republish(job_id, client=client, auth_token=token)
        return json_document(details_document(job, client=client), status=202)

    @router.post("/jobs/{job_id}/retranscribe")
    async def retranscribe(request: Request, client: Client, job_id: JobId) -> Response:
        wanted = await read_model(request, RetranscribeRequest, may_be_empty=True)
        job = await service.retranscribe(job_id, wanted.to_wish(), client=client)
        answer = json_document(details_document(job, client=client), status=202)
        answer.headers["Location"] = f"/jobs/{job.id}?details=1"
        return answer

    return router


async def _exactly(chunks: AsyncIterator[bytes], size_bytes: int) -> AsyncIterator[bytes]:
    """As many bytes as were announced, of a file that may grow meanwhile.

    Raises:
        BackendError: there are fewer; the connection ends, so that nobody takes a part for the whole.
    """
    left = size_bytes
    async for chunk in chunks:
        if chunk := chunk[:left]:
            left -= len(chunk)
            yield chunk
        if not left:
            return
    if left:
        raise BackendError("the file became shorter while it was read")


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]
