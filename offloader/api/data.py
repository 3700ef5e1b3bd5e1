"""The admin's routes about what is kept of a call, a channel or a person."""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict

from clientauth.caller import caller
from clientauth.service import ClientAuth, Identity
from clientauth.turns import PEER
from foundation.clock import epoch_ms
from offloader.api.bodies import read_model
from offloader.api.deps import admin_of
from offloader.api.errors import BadRequest, json_document
from offloader.audit import Audit, about
from offloader.job_data import USER, Found, JobData, Subject
from offloader.models import Job

_ID: Final = re.compile(r"[a-z0-9]{26}")
_WANTED_ID: Final = "should be an ID of 26 characters a-z and 0-9"
_HOLD: Final = "held by the admin"
_LONGEST_HOLD: Final = 120
_LONGEST_QUOTE: Final = 40
_DONE: Final = {"deleted": "done", "waiting": "done", "held": "done", "released": "done"}
"""What else became of a job is that it was left alone."""


class DataRequest(BaseModel):
    """One of the three; `hold`: why, shown to whoever wants to delete it."""

    model_config = ConfigDict(strict=True, frozen=True)

    call: str | None = None
    channel: str | None = None
    user: str | None = None
    hold: str | None = None

    def subject(self) -> Subject:
        """Raises BadRequest."""
        given = {kind: getattr(self, kind) for kind in ("call", "channel", "user")}
        given = {kind: value for kind, value in given.items() if value is not None}
        if len(given) != 1:
            raise BadRequest("should name exactly one of call, channel and user")
        [(kind, value)] = given.items()
        if not _ID.fullmatch(value):
            raise BadRequest(f"invalid {kind} value: {_WANTED_ID} (it is {_quoted(value)})")
        return Subject(kind, value)

    def reason(self) -> str:
        """Raises BadRequest."""
        reason = _HOLD if self.hold is None else self.hold
        if not reason.strip() or not reason.isprintable() or len(reason) > _LONGEST_HOLD:
            wanted = f"should be 1 to {_LONGEST_HOLD} printable characters"
            raise BadRequest(f"invalid hold value: {wanted} (it is {_quoted(reason)})")
        return reason


def data_router(data: JobData, auth: ClientAuth, audit: Audit) -> APIRouter:
    """`/admin/data/…`."""
    router = APIRouter(prefix="/admin/data")
    Admin = Annotated[Identity, Depends(admin_of(auth))]

    async def wanted_by(request: Request) -> tuple[DataRequest, Subject]:
        wanted = await read_model(request, DataRequest)
        subject = wanted.subject()
        if (
            subject.kind == USER
        ):  # who asks about whom is no secret, but whom it is about is a person
            about(user_sha256=hashlib.sha256(subject.id.encode()).hexdigest())
        else:
            about(**{subject.kind: subject.id})
        return wanted, subject

    async def done(
        action: str, work: Callable[[], Awaitable[tuple[Found, Mapping[str, str]]]]
    ) -> Response:
        found, outcomes = await work()
        door = "network" if PEER.get() else "socket"
        for job_id, outcome in outcomes.items():
            result = _DONE.get(outcome, "refused")
            audit.note(action, who=caller(), result=result, door=door, job=job_id, outcome=outcome)
        return json_document(_document(found, outcomes))

    @router.post("/find")
    async def find(request: Request, _admin: Admin) -> Response:
        _, subject = await wanted_by(request)
        return json_document(_document(await data.find(subject), {}))

    @router.post("/delete")
    async def delete(request: Request, _admin: Admin) -> Response:
        _, subject = await wanted_by(request)
        return await done("job.delete", lambda: data.delete(subject))

    @router.post("/hold")
    async def hold(request: Request, _admin: Admin) -> Response:
        wanted, subject = await wanted_by(request)
        reason = wanted.reason()
        return await done("job.hold", lambda: data.hold(subject, reason))

    @router.post("/release")
    async def release(request: Request, _admin: Admin) -> Response:
        _, subject = await wanted_by(request)
        return await done("job.release", lambda: data.release(subject))

    return router


def _quoted(value: str) -> str:
    cut = value if len(value) <= _LONGEST_QUOTE else f"{value[:_LONGEST_QUOTE]}…"
    return repr(cut)


def _document(found: Found, outcomes: Mapping[str, str]) -> dict[str, Any]:
    return {
        "matched": found.matched,
        "jobs": [_job_document(job, outcomes.get(job.id)) for job in found.jobs],
        "left_out": [{"matched": key, "jobs": count} for key, count in found.left_out.items()],
        "unsearched": [{"id": job_id, "reason": why} for job_id, why in found.unsearched],
        "records_only": found.erased,
    }


def _job_document(job: Job, outcome: str | None) -> dict[str, Any]:
    data = job.spec.input_data
    return {
        "id": job.id,
        "type": job.spec.type.value,
        "state": job.state.value,
        "client_id": job.client_id,
        "channel": data.get("call_id"),
        "call": data.get("post_id"),
        "start_at": epoch_ms(job.created_at),
        "unpublished": job.unpublished,
        "files": "removed" if job.left_bytes == 0 else "here",
        "size_bytes": job.left_bytes,
        "hold": job.hold,
        "deletion_at": job.deletion_at and epoch_ms(job.deletion_at),
        "outcome": outcome,
    }
