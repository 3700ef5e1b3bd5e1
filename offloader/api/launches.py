"""Where workers claim jobs that this replica launches, and tell what became of them (docs/celery.md).

Only with a backend that gives jobs out; only for who has the key of service and workers.
"""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
from typing import Annotated, Any, Protocol, runtime_checkable

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from offloader.api.bodies import parse_json
from offloader.api.deps import known_id
from offloader.api.errors import BadRequest, Refused
from offloader.backends.celery.board import Claim, LaunchBoard
from offloader.backends.remote.wire import WireError, workload_of
from offloader.bearer import bearer_token
from offloader.models import Workload

_REFUSALS = {
    Claim.TAKEN: (409, "another worker has this job"),
    Claim.GONE: (410, "nobody launches this job any more"),
}


@runtime_checkable
class GivesJobsOut(Protocol):
    """A backend whose workers come and claim what it launches."""

    board: LaunchBoard

    def opens(self, token: str) -> bool:
        """Whether `token` is the door key of service and workers."""


def launch_router(backend: GivesJobsOut) -> APIRouter:
    """`POST /launches/{job_id}/claim` and `…/outcome`."""
    router = APIRouter(prefix="/launches/{job_id}")
    board = backend.board

    async def worker(request: Request) -> None:
        if not backend.opens(bearer_token(request.headers.get("authorization"))):
            raise Refused(401, "the worker has another secret key than this service, or sent none")

    JobId = Annotated[str, Depends(known_id)]
    Known = Depends(worker)

    @router.post("/claim", dependencies=[Known])
    async def claim(request: Request, job_id: JobId) -> Response:
        """`{"worker", "url"}`: 200 when the job is that worker's, 409 when another has it, 410 too late."""
        match await _document(request):
            case {"worker": str(name), "url": str(url)} if name and url:
                answer = board.claim(job_id, worker=name, url=url)
            case _:
                raise BadRequest("should be an object with worker and url")
        if answer is not Claim.GRANTED:
            raise Refused(*_REFUSALS[answer])
        return JSONResponse({})

    @router.post("/outcome", dependencies=[Known])
    async def outcome(request: Request, job_id: JobId) -> Response:
        """`{"workload"}` or `{"error"}`: 200, or 410 when nobody waits for it any more."""
        told = _outcome(await _document(request))
        if not board.settle(job_id, told):
            raise Refused(*_REFUSALS[Claim.GONE])
        return JSONResponse({})

    return router


async def _document(request: Request) -> dict[str, Any]:
    document = parse_json(await request.body())
    if not isinstance(document, dict):
        raise BadRequest("should be a JSON object")
    return document


def _outcome(document: dict[str, Any]) -> Workload | str:
    try:
        match document:
            case {"error": str(error)} if error:
                return error
            case {"workload": workload}:
                return workload_of(workload)
    except WireError as error:
        raise BadRequest(str(error)) from error
    raise BadRequest("should be an object with workload or error")
