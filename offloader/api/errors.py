"""From exceptions to answers: `{"error": "…", "code": "<status as a string>"}`, status and code agreeing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from clientauth.http import error_response
from clientauth.service import AuthError
from offloader.errors import (
    AddressListensTooOften,
    ArtifactNotFound,
    BackendError,
    CreationFailed,
    IdempotencyMismatch,
    InvalidCursor,
    InvalidJob,
    JobIsHeld,
    JobIsRunning,
    JobIsStarting,
    JobNotFound,
    ListensTooOften,
    NothingToPublish,
    NotRetranscribable,
    StoreError,
    TooManyListeners,
)
from offloader.plain_refusal import refusal_text

NO_SUCH_JOB: Final = "failed to get job failed to get job: error: not found"
"""The reference's very text; it says the same thing twice."""


class BadRequest(Exception):
    """The request itself cannot be read: 400."""


class Refused(Exception):
    """A route's own answer to an error: `status` and the text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


_STATUS: Final[Mapping[type[Exception], int]] = {
    BadRequest: 400,
    InvalidJob: 400,
    InvalidCursor: 400,
    ArtifactNotFound: 404,
    JobIsStarting: 409,
    JobIsHeld: 409,
    NothingToPublish: 409,
    NotRetranscribable: 409,
    IdempotencyMismatch: 422,
    BackendError: 500,
    TooManyListeners: 503,
    ListensTooOften: 429,
    AddressListensTooOften: 429,
}
"""Errors whose own text is the answer."""


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every exception in the one form. A wrong method is 404, as in the reference."""

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        if error.status_code in (404, 405):
            return error_response(404, "not found")
        return error_response(error.status_code, str(error.detail))

    for kind, status in _STATUS.items():
        app.add_exception_handler(kind, _with_own_text(status))

    @app.exception_handler(ClientDisconnect)
    async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
        return error_response(400, "the connection ended before the body did")  # nobody reads it

    @app.exception_handler(AuthError)
    @app.exception_handler(Refused)
    async def _refused(_request: Request, error: AuthError | Refused) -> Response:
        return error_response(error.status, str(error))

    @app.exception_handler(JobNotFound)
    async def _not_found(_request: Request, _error: JobNotFound) -> Response:
        return error_response(404, NO_SUCH_JOB)

    @app.exception_handler(JobIsRunning)
    async def _running(_request: Request, _error: JobIsRunning) -> Response:
        return error_response(400, "job is running")

    @app.exception_handler(CreationFailed)
    async def _creation(_request: Request, error: CreationFailed) -> Response:
        return error_response(500, refusal_text(str(error)))

    @app.exception_handler(StoreError)
    async def _store(_request: Request, _error: StoreError) -> Response:
        return error_response(500, "the database cannot be used: see the log of the job service")

    @app.exception_handler(Exception)
    async def _bug(_request: Request, _error: Exception) -> Response:
        return error_response(500, "internal error: see the log of the job service")


def json_document(document: Mapping[str, Any], *, status: int = 200) -> Response:
    """A JSON answer with a newline at its end, as the reference writes it."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return Response(text + "\n", status_code=status, media_type="application/json")


def _with_own_text(status: int) -> Callable[[Request, Exception], Response]:
    def answer(_request: Request, error: Exception) -> Response:
        return error_response(status, str(error))

    return answer
