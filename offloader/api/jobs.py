"""The job routes of job-service.md 1."""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from clientauth.service import ClientAuth, Identity
from foundation.spans import NoTracing, Tracing, within
from offloader.api.bodies import read_model
from offloader.api.deps import client_of, idempotency_key, known_id
from offloader.api.errors import Refused, json_document
from offloader.api.queries import flag
from offloader.api.schemas import InitRequest, JobCreate, details_document, job_document
from offloader.api.streams import until
from offloader.audit import about
from offloader.errors import BackendError, JobNotFound
from offloader.events import JobEvents
from offloader.failure_log import newest_error
from offloader.service import JobService


def job_router(
    service: JobService, auth: ClientAuth, events: JobEvents, tracing: Tracing | None = None
) -> APIRouter:
    """Routes of the reference, so an unknown client's first request registers it where that is allowed."""
    router = APIRouter()
    traces = tracing or NoTracing()
    Client = Annotated[Identity, Depends(client_of(auth, may_register=True))]
    JobId = Annotated[str, Depends(known_id)]

    @router.post("/jobs/init")
    async def init(request: Request, _client: Client) -> Response:
        wanted = await read_model(request, InitRequest)
        try:
            await service.prepare(wanted.runners)
        except BackendError as error:
            raise Refused(500, f"failed to update job runner: {error}") from error
        return Response(status_code=200)

    @router.post("/jobs")
    async def create(request: Request, client: Client) -> Response:
        key = idempotency_key(request)
        wanted = await read_model(request, JobCreate)
        caller = request.headers.get("traceparent", "")  # W3C Trace Context
        with within(traces.begin("POST /jobs", traceparent=caller, serves=True)):
            job = await service.create(wanted.to_wish(), client=client, idempotency_key=key)
        about(job=job.id)
        return json_document(job_document(job))

    @router.get("/jobs/{job_id}")
    async def get(request: Request, client: Client, job_id: JobId) -> Response:
        details = flag(request, "details")
        job = await service.get(job_id, client=client, doomed=True)
        if not details:
            return json_document(job_document(job))
        lines = () if job.deletion_at else await service.last_log_lines(job)
        said = newest_error("\n".join(lines).encode())
        document = details_document(job, client=client, said=said)
        return json_document(document | {"last_log_lines": list(lines)})

    @router.delete("/jobs/{job_id}")
    async def delete(client: Client, job_id: JobId) -> Response:
        gone = await service.delete(job_id, client=client)
        return Response(status_code=200 if gone else 202)

    @router.get("/jobs/{job_id}/logs")
    async def logs(request: Request, client: Client, job_id: JobId) -> Response:
        follow = flag(request, "follow")
        try:
            if follow:
                chunks = until(events.closing, await service.follow_logs(job_id, client=client))
            else:
                chunks = await service.logs(job_id, client=client)
        except JobNotFound as error:
            if follow:
                raise
            text = "failed to get recording job logs: no such job"
            raise Refused(403, text) from error  # the reference's answer to any failure here
        return StreamingResponse(chunks, media_type="text/plain; charset=utf-8")

    return router
