"""Routes for who operates the SFU: `/metrics` (rtcd.md 1.6), and ours: `/healthz`, `/readyz`, `/drain`."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from clientauth.http import error_response
from clientauth.service import AuthError, ClientAuth
from sfu.drain import DrainConflict
from sfu.metrics_text import CONTENT_TYPE, render
from sfu.plugin_connection import Control
from sfu.settings import REFUSALS, Refusal

ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
"""Where the original looks at the path only."""
_MAX_BODY_BYTES = 1024
_DRAIN_REFUSED = "only the admin may drain this server"


def metrics_router(control: Control) -> APIRouter:
    """`/metrics` is open to whoever reaches it, as in the original."""
    router = APIRouter()

    @router.api_route("/metrics", methods=ANY_METHOD)
    async def metrics() -> Response:
        snapshots = [control.metrics.snapshot(), *await control.media.snapshots()]
        return Response(render(snapshots), media_type=CONTENT_TYPE)

    return router


def health_router(control: Control) -> APIRouter:
    """For probes; open."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> Response:
        """Should new calls come here?"""
        if control.drain.draining:
            return JSONResponse({"status": "draining"}, status_code=503)
        missing = control.media.missing_processes()
        if missing:
            return JSONResponse(
                {"status": "processes missing", "missing": missing}, status_code=503
            )
        return JSONResponse({"status": "ready"})

    return router


def drain_router(control: Control, auth: ClientAuth) -> APIRouter:
    """How far a drain is, is open; to begin and to end one is the admin's."""
    router = APIRouter()

    @router.get("/drain")
    async def drain_status() -> dict[str, Any]:
        return control.drain.status()

    @router.post("/drain")
    async def begin_drain(request: Request) -> Response:
        """`{"refuse": "calls"}`, which is also the default: see `Drain.refuses`."""
        try:
            await require_admin(request, auth, _DRAIN_REFUSED)
            control.drain.begin(await _refusal(request))
        except AuthError as error:
            return error_response(error.status, error.text)
        return JSONResponse(control.drain.status())

    @router.delete("/drain")
    async def end_drain(request: Request) -> Response:
        try:
            await require_admin(request, auth, _DRAIN_REFUSED)
            control.drain.end()
        except AuthError as error:
            return error_response(error.status, error.text)
        except DrainConflict as error:
            return error_response(409, str(error))
        return JSONResponse(control.drain.status())

    return router


async def require_admin(request: Request, auth: ClientAuth, text: str) -> None:
    """Raises AuthError: 401, or 403 with `text` for a client."""
    identity = await auth.authenticate(request.headers.get("authorization"), may_register=False)
    if not identity.admin:
        raise AuthError(403, text)


async def _refusal(request: Request) -> Refusal:
    """Raises AuthError 400: the body is something else than it should be."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MAX_BODY_BYTES:
            raise AuthError(413, f"request body is larger than {_MAX_BODY_BYTES} bytes")
    try:
        body = json.loads(bytes(data) or b"{}")
    except (ValueError, RecursionError):
        body = None
    wanted = body.get("refuse", "calls") if isinstance(body, dict) else None
    for refusal in REFUSALS:
        if wanted == refusal:
            return refusal
    raise AuthError(
        400, 'request body should be {"refuse": "none"}, "calls" or "joins", or nothing'
    )
