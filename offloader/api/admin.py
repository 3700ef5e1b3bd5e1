"""The admin's routes: status, drain, clients; by the local socket or with the admin's key."""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from clientauth.admin import ClientAdmin, unknown_client
from clientauth.service import ClientAuth, Identity
from clientauth.store import ClientUnknown
from foundation.clock import epoch_ms
from foundation.logs import get_logger
from offloader.administration import Administration, ServiceStatus
from offloader.api.bodies import read_model
from offloader.api.deps import admin_of
from offloader.api.errors import Refused, json_document
from offloader.audit import about
from offloader.models import Job
from offloader.version import BUILD_VERSION

log = get_logger()


class ClientRequest(BaseModel):
    """A client, and its key where one is set."""

    model_config = ConfigDict(strict=True, frozen=True)

    client_id: str = Field(default="", alias="clientID")
    auth_key: str = Field(default="", alias="authKey", repr=False)


def admin_router(
    administration: Administration,
    clients: ClientAdmin,
    adopt_jobs: Callable[[str], Awaitable[int]],
    auth: ClientAuth,
    *,
    self_registration: bool,
) -> APIRouter:
    """`/admin/…`; 403 for everybody else, 401 for who is nobody. `adopt_jobs`: gives a client what earlier
    registrations of its name left; raises ClientUnknown."""
    router = APIRouter(prefix="/admin")
    Admin = Annotated[Identity, Depends(admin_of(auth))]

    async def client_in(request: Request) -> ClientRequest:
        wanted = await read_model(request, ClientRequest)
        about(subject=wanted.client_id)
        return wanted

    @router.get("/status")
    async def status(_admin: Admin) -> Response:
        return json_document(_status_document(await administration.status()))

    @router.post("/drain")
    async def drain(_admin: Admin) -> Response:
        administration.drain()
        return json_document(_status_document(await administration.status()))

    @router.post("/undrain")
    async def undrain(_admin: Admin) -> Response:
        if not administration.undrain():
            raise Refused(
                409, "the service is ending: it takes jobs again when it has started again"
            )
        return json_document(_status_document(await administration.status()))

    @router.get("/clients")
    async def list_clients(_admin: Admin) -> Response:
        live = Counter(job.client_id for job in (await administration.status()).jobs)
        found = [
            {"clientID": client_id, "live_jobs": live[client_id]}
            for client_id in await clients.ids()
        ]
        return json_document({"clients": found})

    @router.post("/clients/add")
    async def add(request: Request, _admin: Admin) -> Response:
        wanted = await client_in(request)
        await clients.add(wanted.client_id, wanted.auth_key)
        return json_document({"clientID": wanted.client_id}, status=201)

    @router.post("/clients/rotate")
    async def rotate(request: Request, _admin: Admin) -> Response:
        wanted = await client_in(request)
        await clients.rotate(wanted.client_id, wanted.auth_key)
        return json_document({"clientID": wanted.client_id})

    @router.post("/clients/revoke")
    async def revoke(request: Request, _admin: Admin) -> Response:
        wanted = await client_in(request)
        await clients.revoke(wanted.client_id)
        document = {"clientID": wanted.client_id, "may_come_back": self_registration}
        return json_document(document)

    @router.post("/clients/adopt")
    async def adopt(request: Request, _admin: Admin) -> Response:
        wanted = await client_in(request)
        try:
            adopted = await adopt_jobs(wanted.client_id)
        except ClientUnknown:
            raise Refused(404, unknown_client(wanted.client_id)) from None
        log.info("client.jobs_adopted", jobs=adopted)
        return json_document({"clientID": wanted.client_id, "jobs": adopted})

    return router


def _status_document(status: ServiceStatus) -> dict[str, Any]:
    return {
        "version": BUILD_VERSION,
        "backend": status.backend,
        "calls_in_progress": status.calls_in_progress,
        "max_calls": status.max_calls,
        "jobs": [_job_document(job) for job in status.jobs],
        "unpublished": {
            "waiting": status.waiting,
            "oldest_age_s": status.oldest_waiting.total_seconds(),
            "given_up": status.given_up,
        },
        "draining": status.draining,
        "safe_to_restart": status.safe_to_restart,
        "reason": status.reason,
    }


def _job_document(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "type": job.spec.type.value,
        "state": job.state.value,
        "post_call": job.post_call,
        "start_at": epoch_ms(job.created_at),
        "deadline_at": epoch_ms(job.deadline_at),
    }
