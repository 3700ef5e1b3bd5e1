"""The routes of a worker's door: its local backend over HTTP, for the service alone.

Whoever has the key gets everything; `KeyGuard` stands before them. Errors are `{"error": text}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from foundation.logs import get_logger
from offloader.api.bodies import parse_json
from offloader.api.errors import BadRequest
from offloader.backends.base import Backend, Phase
from offloader.backends.remote.streams import BYTES, streamed, to_the_end
from offloader.backends.remote.wire import (
    MOST_POLLED,
    WireError,
    artifact_document,
    is_door_key,
    observation_document,
    rescue_context,
    unseal,
    variables_context,
    workload_document,
    workload_of,
)
from offloader.backends.strangers import stranger_of
from offloader.bearer import bearer_token
from offloader.errors import BackendError, FilesGone, LaunchFailed, WorkloadBusy
from offloader.models import JOB_ID, JobType, Workload
from offloader.store.secret_key import Cipher

_OPEN_PATH: Final = "/healthz"
_POLLED_AT_ONCE: Final = 8
_LOOKS: Final = 40
_LOOK_AGAIN_S: Final = 0.05

log = get_logger()


class KeyGuard:
    """ASGI middleware: 401 without the door key of `cipher`, whatever is asked, but for open paths."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        cipher: Cipher,
        open_prefixes: tuple[str, ...] = (),
    ) -> None:
        """`open_prefixes`: routes below them look at tokens themselves."""
        self._app = app
        self._cipher = cipher
        self._open_prefixes = open_prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._admits(scope):
            answer = error(401, "the worker has another secret key, or none was sent")
            answer.headers["WWW-Authenticate"] = "Bearer"
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path == _OPEN_PATH or path.startswith(self._open_prefixes):
            return True
        return is_door_key(self._cipher, bearer_token(Headers(scope=scope).get("authorization")))


def error(status: int, text: str) -> JSONResponse:
    """The one form of errors."""
    return JSONResponse({"error": text}, status_code=status)


def install_door_errors(app: FastAPI) -> None:
    """Make `app` answer every exception in that form."""
    statuses: Mapping[type[Exception], int] = {
        WireError: 400,
        BadRequest: 400,
        WorkloadBusy: 409,
        FilesGone: 410,
        LaunchFailed: 422,
        BackendError: 503,
    }
    for kind, status in statuses.items():
        app.add_exception_handler(kind, _answers(status))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, problem: HTTPException) -> Response:
        return error(problem.status_code, str(problem.detail))

    @app.exception_handler(Exception)
    async def _bug(_request: Request, _problem: Exception) -> Response:
        return error(500, "internal error: see the log of the worker")


def _answers(status: int) -> Callable[[Request, Exception], Response]:
    def answer(_request: Request, problem: Exception) -> Response:
        return error(status, str(problem))

    return answer


def backend_router(
    backend: Backend,
    *,
    cipher: Cipher,
    closing: asyncio.Event,
    lowered: Callable[[Workload], None] = lambda workload: None,
    told: Callable[[Workload], None] = lambda workload: None,
    launching: Callable[[], bool] = lambda: False,
) -> APIRouter:
    """`/backend/…`: every method of the port but `launch`, which comes through the broker.

    `lowered` is called with every workload whose call is over, `told` with every one of which the service
    learns that it has ended. While it is `launching` a job, nobody is told which jobs there are: that one
    would be missing. Streams end when `closing` is set.
    """
    router = APIRouter(prefix="/backend")

    @router.post("/prepare")
    async def prepare(request: Request) -> Response:
        """`{"runners": […]}`."""
        runners = (await _body(request)).get("runners")
        if not (isinstance(runners, list) and all(isinstance(name, str) for name in runners)):
            raise WireError("runners: should be a list of texts")
        await backend.prepare(runners)
        return JSONResponse({})

    @router.post("/poll")
    async def poll(request: Request) -> Response:
        """`{"workloads": […]}` to `{"observations": […]}` of the same order; `{"error"}` where one failed."""
        wanted = (await _body(request)).get("workloads")
        if not (isinstance(wanted, list) and len(wanted) <= MOST_POLLED):
            raise WireError(f"workloads: should be a list of at most {MOST_POLLED}")
        workloads = [_own(backend, document) for document in wanted]
        free = asyncio.Semaphore(_POLLED_AT_ONCE)

        async def one(workload: Workload) -> dict[str, Any]:
            async with free:
                try:
                    observation = await backend.poll(workload)
                except BackendError as problem:
                    return {"error": str(problem)}
                except Exception as problem:
                    # One that cannot be looked at must not hide the others.
                    log.exception("door.poll_failed")
                    kind = type(problem).__name__
                    return {"error": f"internal error: {kind}: see the worker's log"}
            if observation.phase in (Phase.EXITED, Phase.LOST):
                told(workload)
            return observation_document(observation)

        return JSONResponse({"observations": await asyncio.gather(*map(one, workloads))})

    @router.post("/stop")
    async def stop(request: Request) -> Response:
        """`{"workload", "grace_s"}`."""
        body = await _body(request)
        grace_s = body.get("grace_s")
        if not isinstance(grace_s, int | float) or grace_s < 0:
            raise WireError("grace_s: should be a number of seconds")
        await backend.stop(_own(backend, body.get("workload")), grace_s=grace_s)
        return JSONResponse({})

    @router.post("/lower")
    async def lower(request: Request) -> Response:
        workload = _own(backend, (await _body(request)).get("workload"))
        lowered(workload)
        await backend.lower(workload)
        return JSONResponse({})

    @router.post("/remove")
    async def remove(request: Request) -> Response:
        try:
            await backend.remove(_own(backend, (await _body(request)).get("workload")))
        except BackendError as problem:
            return error(409, str(problem))
        return JSONResponse({})

    @router.post("/erase")
    async def erase(request: Request) -> Response:
        try:
            await backend.erase(_own(backend, (await _body(request)).get("workload")))
        except BackendError as problem:
            return error(409, str(problem))
        return JSONResponse({})

    @router.post("/artifacts")
    async def artifacts(request: Request) -> Response:
        files = await backend.artifacts(_own(backend, (await _body(request)).get("workload")))
        return JSONResponse({"artifacts": [artifact_document(file) for file in files]})

    @router.post("/adopt")
    async def adopt(request: Request) -> Response:
        for _ in range(_LOOKS):  # most launches take less, with an image to pull much more
            if not launching():
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        found = await backend.adopt()
        if launching():  # whether that job was found is chance
            raise BackendError("the worker is just launching a job")
        documents = {job_id: workload_document(workload) for job_id, workload in found.items()}
        return JSONResponse({"workloads": documents})

    @router.post("/logs")
    async def logs(request: Request) -> Response:
        """`{"workload", "tail_bytes"}`."""
        body = await _body(request)
        tail_bytes = body.get("tail_bytes")
        if not (tail_bytes is None or (isinstance(tail_bytes, int) and tail_bytes >= 0)):
            raise WireError("tail_bytes: should be a number of bytes or null")
        workload = _own(backend, body.get("workload"))
        return await streamed(backend.logs(workload, tail_bytes=tail_bytes), closing)

    @router.post("/follow")
    async def follow(request: Request) -> Response:
        """Begins at once, also while the job is silent."""
        workload = _own(backend, (await _body(request)).get("workload"))
        chunks = to_the_end(backend.follow(workload), closing)
        return StreamingResponse(chunks, media_type=BYTES)

    @router.post("/artifact")
    async def artifact(request: Request) -> Response:
        """`{"workload", "name", "start"}`."""
        body = await _body(request)
        name, start = body.get("name"), body.get("start")
        if not (isinstance(name, str) and isinstance(start, int) and start >= 0):
            raise WireError("name and start: should be a text and a number of bytes")
        workload = _own(backend, body.get("workload"))
        return await streamed(backend.read_artifact(workload, name, start=start), closing)

    @router.post("/salvage")
    async def salvage(request: Request) -> Response:
        """`{"workload", "job_type", "sealed_variables"}`."""
        workload, job_type, variables = _wish(backend, cipher, await _body(request))
        made = await backend.salvage(workload, job_type=job_type, variables=variables)
        return JSONResponse({"workload": workload_document(made)})

    @router.post("/retranscribe")
    async def retranscribe(request: Request) -> Response:
        workload, job_type, variables = _wish(backend, cipher, await _body(request))
        made = await backend.retranscribe(workload, job_type=job_type, variables=variables)
        return JSONResponse({"workload": workload_document(made)})

    @router.post("/rescue")
    async def rescue(request: Request) -> Response:
        """`{"workload" or null, "job_type", "job_id", "result", "sealed_variables"}` to
        `{"workload", "attempt"}`."""
        body = await _body(request)
        job_id, result = str(body.get("job_id")), str(body.get("result"))
        if not JOB_ID.fullmatch(job_id):
            raise WireError(f"job_id: {job_id[:64]!r}")
        job_type = _job_type(body)
        lost = body.get("workload")
        workload = stranger_of(backend.name, job_id, job_type)
        if lost is not None and workload_of(lost).backend == backend.name:
            workload = workload_of(lost)
        variables = _variables(cipher, body, rescue_context(job_id, result))
        made = await backend.rescue(workload, job_type=job_type, result=result, variables=variables)
        return JSONResponse(
            {
                "workload": workload_document(made.workload),
                "attempt": workload_document(made.attempt),
            }
        )

    return router


async def _body(request: Request) -> dict[str, Any]:
    document = parse_json(await request.body())
    if not isinstance(document, dict):
        raise WireError("body: should be a JSON object")
    return document


def _own(backend: Backend, document: Any) -> Workload:
    workload = workload_of(document)
    if workload.backend != backend.name:
        raise WireError(f"workload: of backend {workload.backend!r}: here is {backend.name!r}")
    return workload


def _wish(
    backend: Backend, cipher: Cipher, body: Mapping[str, Any]
) -> tuple[Workload, JobType, Mapping[str, str]]:
    workload = _own(backend, body.get("workload"))
    return workload, _job_type(body), _variables(cipher, body, variables_context(workload))


def _job_type(body: Mapping[str, Any]) -> JobType:
    try:
        return JobType(str(body.get("job_type")))
    except ValueError as problem:
        raise WireError(f"job_type: {problem}") from problem


def _variables(
    cipher: Cipher, body: Mapping[str, Any], context: Sequence[str]
) -> Mapping[str, str]:
    variables = unseal(cipher, str(body.get("sealed_variables")), context=context)
    if variables is None or not all(isinstance(value, str) for value in variables.values()):
        raise WireError("sealed_variables: sealed with another key, or for another workload")
    return variables
