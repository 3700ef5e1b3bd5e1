"""`/tasks/…` of a worker's door: jobs hand in tracks, workers fetch them and bring texts (docs/celery.md).

They look at bearer tokens themselves: the door's key is good for all of them, a job's own token for what that
job needs (`TrackOwner.admits`). Errors are `{"error": text}`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from offloader.api.bodies import parse_json
from offloader.backends.remote.streams import streamed
from offloader.backends.remote.wire import WireError
from offloader.bearer import bearer_token
from offloader.errors import BackendError
from offloader.models import JOB_ID
from offloader.worker.transcribing_files import CLAIM, TRACK_NAME, OutOfOrder
from offloader.worker.transcribing_owner import NotHandedIn, TrackOwner, UnknownTracks
from offloader.worker.transcribing_state import ClaimAnswer

_PART_BYTES: Final = 1 << 20
_MOST_TRACKS: Final = 1000
_MOST_PIECES: Final = 100_000
_STATUS: Final = {ClaimAnswer.GRANTED: 200, ClaimAnswer.TAKEN: 409, ClaimAnswer.OVER: 410}
_LONGEST_REASON: Final = 300


async def _names(request: Request) -> None:
    """A dependency: whatever is in the path becomes part of a file's name. Raises WireError."""
    path = request.path_params
    if not JOB_ID.fullmatch(path["job_id"]):
        raise WireError("job: should be the ID of a job")
    if "track" in path and not TRACK_NAME.fullmatch(path["track"]):
        raise WireError("track: should be voice-NUMBER")


def task_routes(owner: TrackOwner) -> APIRouter:
    """For the app of the door, behind its guard."""

    async def admitted(request: Request) -> None:
        token = bearer_token(request.headers.get("authorization"))
        if not owner.admits(request.scope["path"], token):
            raise HTTPException(
                401, "no token for these tracks was sent", headers={"WWW-Authenticate": "Bearer"}
            )

    guards = [Depends(admitted), Depends(_names)]
    router = APIRouter(prefix="/tasks/{job_id}", dependencies=guards)

    @router.put("/{track}/audio")
    async def put_audio(
        job_id: str, track: str, request: Request, start: int = Query(ge=0)
    ) -> Response:
        """A part of a track's sound, at most 1 MiB; 0 begins anew. 409: it would leave a hole."""
        part = await _part(request)
        return await _appended(owner.receive(job_id, track, part, start=start))

    @router.post("")
    async def begin(job_id: str, request: Request) -> Response:
        """`{"tracks": [{"name", "pieces"}]}`, all of which are there. 503: the broker takes nothing."""
        try:
            await owner.begin(job_id, _tracks(await _document(request)))
        except NotHandedIn as error:
            return _error(409, str(error))
        except BackendError as error:
            return _error(503, str(error))
        except OSError as error:
            return _error(507, f"cannot be written: {error.strerror}")
        return JSONResponse({})

    @router.get("")
    async def look(
        job_id: str, after: int = 0, wait_s: float = Query(default=0.0, ge=0.0)
    ) -> Response:
        """`{"version", "tracks": [{"name", "state", "done", "worker", "reason"}]}`, newer than `after`."""
        try:
            version, tracks = await owner.look(job_id, after=after, wait_s=wait_s)
        except UnknownTracks as error:
            return _error(404, str(error))
        return JSONResponse({"version": version, "tracks": tracks})

    @router.delete("")
    async def forget(job_id: str) -> Response:
        await owner.forget(job_id)
        return JSONResponse({})

    @router.get("/{track}/result")
    async def get_result(job_id: str, track: str) -> Response:
        return await _file(owner.result(job_id, track))

    @router.post("/{track}/withdraw")
    async def withdraw(job_id: str, track: str) -> Response:
        """409: somebody is at it."""
        try:
            withdrawn = await owner.withdraw(job_id, track)
        except UnknownTracks as error:
            return _error(404, str(error))
        return JSONResponse({}, status_code=200 if withdrawn else 409)

    @router.get("/{track}/audio")
    async def get_audio(job_id: str, track: str) -> Response:
        return await _file(owner.audio(job_id, track))

    @router.post("/{track}/claim")
    async def claim(job_id: str, track: str, request: Request) -> Response:
        """`{"claim", "worker"}`. 200: it is yours, `{"pieces"}`. 409: another's. 410: nobody needs it."""
        body = await _document(request)
        answer = await owner.claim(
            job_id, track, claim=_claim(body.get("claim")), worker=str(body.get("worker"))[:128]
        )
        pieces = owner.pieces(job_id, track)
        return JSONResponse({"pieces": pieces}, status_code=_STATUS[answer])

    @router.post("/{track}/beat")
    async def beat(job_id: str, track: str, request: Request) -> Response:
        """`{"claim", "done"}`, every few seconds. 410: stop it."""
        body = await _document(request)
        done = body.get("done")
        if not isinstance(done, int):
            raise WireError("done: should be a number of pieces")
        wanted = owner.beat(job_id, track, claim=_claim(body.get("claim")), done=done)
        return JSONResponse({}, status_code=200 if wanted else 410)

    @router.put("/{track}/result")
    async def put_result(
        job_id: str,
        track: str,
        request: Request,
        claim: str,
        start: int = Query(ge=0),
        last: bool = False,
    ) -> Response:
        """A part of a result, at most 1 MiB; 0 begins anew. 410: nobody needs it."""
        part = await _part(request)
        try:
            taken = await owner.result_part(
                job_id, track, part, claim=_claim(claim), start=start, last=last
            )
        except OutOfOrder as error:
            return _error(409, str(error))
        except OSError as error:
            return _error(507, f"cannot be written: {error.strerror}")
        return JSONResponse({}, status_code=200 if taken else 410)

    @router.post("/{track}/failed")
    async def failed(job_id: str, track: str, request: Request) -> Response:
        """`{"claim", "reason", "ending"}`; the last one is true where it is no fault of the track."""
        body = await _document(request)
        reason = str(body.get("reason"))[:_LONGEST_REASON]
        claim, ending = _claim(body.get("claim")), body.get("ending") is True
        await owner.failed(job_id, track, claim=claim, reason=reason, ending=ending)
        return JSONResponse({})

    return router


async def _part(request: Request) -> bytes:
    """Raises WireError."""
    part = bytearray()
    async for chunk in request.stream():
        part += chunk
        if len(part) > _PART_BYTES:
            raise WireError(f"body: should be at most {_PART_BYTES} bytes")
    return bytes(part)


async def _appended(appending: Any) -> Response:
    try:
        return JSONResponse({"size": await appending})
    except OutOfOrder as error:
        return _error(409, str(error))
    except OSError as error:
        return _error(507, f"cannot be written: {error.strerror}")


async def _document(request: Request) -> dict[str, Any]:
    """Raises WireError, BadRequest."""
    document = parse_json(bytes(await _part(request)))
    if not isinstance(document, dict):
        raise WireError("body: should be a JSON object")
    return document


def _claim(text: Any) -> str:
    if not isinstance(text, str) or not CLAIM.fullmatch(text):
        raise WireError("claim: should be 32 hexadecimal digits")
    return text


def _tracks(document: dict[str, Any]) -> dict[str, int]:
    tracks = document.get("tracks")
    if not isinstance(tracks, list) or not 0 < len(tracks) <= _MOST_TRACKS:
        raise WireError(f"tracks: should be a list of 1 to {_MOST_TRACKS}")
    pieces: dict[str, int] = {}
    for entry in tracks:
        match entry:
            case {"name": str(name), "pieces": int(count)} if (
                TRACK_NAME.fullmatch(name) and 0 < count <= _MOST_PIECES
            ):
                pieces[name] = count
            case _:
                raise WireError("tracks: each should have name (voice-NUMBER) and pieces")
    return pieces


async def _file(chunks: AsyncIterator[bytes]) -> Response:
    try:
        return await streamed(chunks)
    except (UnknownTracks, OSError):
        return _error(404, "there is no such file")


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)
