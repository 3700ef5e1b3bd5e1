"""The job routes of job-service.md 1."""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
import json
import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from clientauth.service import ClientAuth, Identity
from offloader.api.bodies import read_model
from offloader.api.schemas import InitRequest, JobCreate, job_document
from offloader.errors import JobNotFound
from offloader.models import Job
from offloader.service import JobService

_JOB_ID: Final = re.compile(r"[a-z0-9-]{12,63}")


def job_router(service: JobService, auth: ClientAuth) -> APIRouter:
    """Routes of the reference, so an unknown client's first request registers it where that is allowed."""
    router = APIRouter()

    async def identity(request: Request) -> Identity:
        return await auth.authenticate(request.headers.get("authorization"))

    async def known_id(job_id: str) -> str:
        if not _JOB_ID.fullmatch(job_id):
            raise JobNotFound(job_id)
        return job_id

    Client = Annotated[Identity, Depends(identity)]
    JobId = Annotated[str, Depends(known_id)]

    @router.post("/jobs/init")
    async def init(request: Request, _client: Client) -> Response:
        wanted = await read_model(request, InitRequest)
        await service.prepare(wanted.runners)
        return Response(status_code=200)

    @router.post("/jobs")
    async def create(request: Request, client: Client) -> Response:
        wanted = await read_model(request, JobCreate)
        return _job_response(await service.create(wanted.to_wish(), client=client))

    @router.get("/jobs/{job_id}")
    async def get(client: Client, job_id: JobId) -> Response:
        return _job_response(await service.get(job_id, client=client))

    @router.delete("/jobs/{job_id}")
    async def delete(client: Client, job_id: JobId) -> Response:
        await service.delete(job_id, client=client)
        return Response(status_code=200)

    @router.get("/jobs/{job_id}/logs")
    async def logs(client: Client, job_id: JobId) -> StreamingResponse:
        chunks = await service.logs(job_id, client=client)
        return StreamingResponse(chunks, media_type="text/plain; charset=utf-8")

    return router


def _job_response(job: Job) -> Response:
    text = json.dumps(job_document(job), ensure_ascii=False, separators=(",", ":"))
    return Response(text + "\n", media_type="application/json")
