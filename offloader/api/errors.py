"""From exceptions to answers: `{"error": "…", "code": "<status as a string>"}`, status and code agreeing."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from clientauth.http import error_response
from clientauth.service import AuthError
from offloader.errors import (
    BackendError,
    CreationFailed,
    InvalidJob,
    JobIsRunning,
    JobNotFound,
    StoreError,
)


class BadRequest(Exception):
    """The request itself cannot be read: 400."""


def install_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every exception in the one form. A wrong method is 404, as in the reference."""

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        if error.status_code in (404, 405):
            return error_response(404, "not found")
        return error_response(error.status_code, str(error.detail))

    @app.exception_handler(AuthError)
    async def _auth(_request: Request, error: AuthError) -> Response:
        return error_response(error.status, str(error))

    @app.exception_handler(BadRequest)
    @app.exception_handler(InvalidJob)
    async def _invalid(_request: Request, error: Exception) -> Response:
        return error_response(400, str(error))

    @app.exception_handler(JobNotFound)
    async def _not_found(_request: Request, _error: JobNotFound) -> Response:
        return error_response(404, "failed to get job: not found")

    @app.exception_handler(JobIsRunning)
    async def _running(_request: Request, _error: JobIsRunning) -> Response:
        return error_response(400, "job is running")

    @app.exception_handler(CreationFailed)
    async def _creation(_request: Request, error: CreationFailed) -> Response:
        # The reference says "recording" for every type, and admins search for it.
        return error_response(500, f"failed to create recording job: {error}")

    @app.exception_handler(BackendError)
    async def _backend(_request: Request, error: BackendError) -> Response:
        return error_response(500, str(error))

    @app.exception_handler(StoreError)
    async def _store(_request: Request, _error: StoreError) -> Response:
        return error_response(500, "the database cannot be used: see the log of the job service")

    @app.exception_handler(Exception)
    async def _bug(_request: Request, _error: Exception) -> Response:
        return error_response(500, "internal error: see the log of the job service")
