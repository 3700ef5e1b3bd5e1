"""The control plane: HTTP API and the WebSocket by which the plugin drives the SFU (rtcd.md 1.4, 2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from clientauth.http import auth_router
from clientauth.service import AuthError, ClientAuth
from clientauth.single_fields import SingleFields
from clientauth.turns import PEER
from foundation.clock import Clock, SystemClock
from foundation.version import build_version
from sfu.control_routes import drain_router, health_router, metrics_router
from sfu.drain import Drain
from sfu.flood import FloodLimits
from sfu.media_port import MediaServer, SessionConfig
from sfu.metrics import SfuMetrics
from sfu.plugin_connection import Control, PluginConnection
from sfu.pprof_routes import pprof_router
from sfu.system_load import SystemLoad

_LOAD_INTERVAL_S: Final = 1.0


def create_app(
    *,
    media: MediaServer,
    auth: ClientAuth,
    metrics: SfuMetrics | None = None,
    drain: Drain | None = None,
    floods: FloodLimits | None = None,
    clock: Clock | None = None,
    monitor_apart: bool = False,
    system_apart: bool = False,
) -> FastAPI:
    """The application: everything the SFU offers over HTTP. What is not given is made with defaults.

    `monitor_apart`: metrics and profiles are left out, `system_apart`: `/system` too, for
    `create_monitor_app` has them.
    """
    clock = clock or SystemClock()
    control = Control(
        media=media,
        metrics=metrics or SfuMetrics(),
        drain=drain or Drain(media=media, clock=clock),
        floods=floods or FloodLimits(clock=clock),
        clock=clock,
    )
    app = _bare_app(_lifespan)
    app.state.control, app.state.auth = control, auth
    app.include_router(auth_router(auth))
    app.include_router(health_router(control))
    app.include_router(drain_router(control, auth))
    if not monitor_apart:
        _add_monitoring(app, control, auth)
    _add_version(app)
    if not system_apart:
        _add_system(app, app)
    _add_calls(app, media, auth)
    _add_websocket(app, control, auth)
    return app


def create_monitor_app(main: FastAPI) -> FastAPI:
    """What monitors ask, for an address of its own; `main` is what `create_app` made, and has to run."""
    control, auth = main.state.control, main.state.auth
    app = _bare_app(None)
    app.include_router(health_router(control))
    _add_monitoring(app, control, auth)
    _add_system(app, main)
    return app


def _bare_app(lifespan: Lifespan[FastAPI] | None) -> FastAPI:
    app = FastAPI(
        title="SFU",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(SingleFields)
    app.add_middleware(_PeerKnown)
    app.add_exception_handler(HTTPException, _not_found)
    return app


def _add_monitoring(app: FastAPI, control: Control, auth: ClientAuth) -> None:
    app.include_router(metrics_router(control))
    app.include_router(pprof_router(auth))


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async def watch_load() -> None:
        while True:
            await asyncio.sleep(_LOAD_INTERVAL_S)
            app.state.cpu_load = load.sample()

    load = SystemLoad()
    app.state.cpu_load = load.sample()
    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(watch_load(), name="system-load")
        yield
        watcher.cancel()


async def _not_found(_: Request, error: Exception) -> Response:
    # The original answers a wrong method like an unknown path.
    assert isinstance(error, HTTPException)
    status = 404 if error.status_code == 405 else error.status_code
    return PlainTextResponse(f"{status} page not found\n", status_code=status)


def _add_version(app: FastAPI) -> None:
    @app.get("/version")
    async def version() -> dict[str, str]:
        return {
            "buildDate": "",
            "buildVersion": build_version(),
            "buildHash": "",
            "goVersion": f"python{platform.python_version()}",
            "goOS": platform.system().lower(),
            "goArch": platform.machine(),
        }


def _add_system(app: FastAPI, measured: FastAPI) -> None:
    """`measured`: whose lifespan watches the load."""

    @app.get("/system")
    async def system() -> dict[str, float]:
        return {"cpu_load": getattr(measured.state, "cpu_load", 0.0)}


def _add_calls(app: FastAPI, media: MediaServer, auth: ClientAuth) -> None:
    def missing(group_id: str) -> str:
        return "call not found" if media.has_group(group_id) else "group not found"

    @app.get("/calls/{call_id}/sessions")
    async def sessions(request: Request, call_id: str) -> Response:
        group_id = await _group(request, auth)
        if group_id is None:
            return PlainTextResponse("unauthorized\n", status_code=401)
        found = media.sessions(group_id, call_id)
        if found is None:
            text = f"failed to get session configs: {missing(group_id)}\n"
            return PlainTextResponse(text, status_code=404)
        return _json([_session_json(config) for config in found])

    @app.get("/calls/{call_id}/sessions/{session_id}")
    async def session(request: Request, call_id: str, session_id: str) -> Response:
        group_id = await _group(request, auth)
        if group_id is None:
            return PlainTextResponse("unauthorized\n", status_code=401)
        found = media.sessions(group_id, call_id)
        if found is None:
            text = f"failed to get session config: {missing(group_id)}\n"
            return PlainTextResponse(text, status_code=404)
        for config in found:
            if config.session_id == session_id:
                return _json(_session_json(config))
        text = "failed to get session config: session not found\n"
        return PlainTextResponse(text, status_code=404)


def _add_websocket(app: FastAPI, control: Control, auth: ClientAuth) -> None:
    @app.websocket("/ws")
    async def websocket(socket: WebSocket) -> None:
        try:
            identity = await auth.authenticate(
                socket.headers.get("authorization"), may_register=False
            )
        except AuthError as error:
            await socket.send_denial_response(
                PlainTextResponse(error.text + "\n", status_code=error.status)
            )
            return
        if not _same_origin(socket):
            text = "origin is not this host\n"
            await socket.send_denial_response(PlainTextResponse(text, status_code=403))
            return
        await socket.accept()
        await PluginConnection(socket, identity.client_id, control).serve()


class _PeerKnown:
    """ASGI middleware: logins take turns by the address that they come from (`clientauth.turns`)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = PEER.set(scope["client"][0] if scope.get("client") else "")
        try:
            await self._app(scope, receive, send)
        finally:
            PEER.reset(token)


async def _group(request: Request, auth: ClientAuth) -> str | None:
    """The authenticated client; the admin has no group (rtcd.md 1.4)."""
    try:
        identity = await auth.authenticate(request.headers.get("authorization"), may_register=False)
    except AuthError:
        return None
    return identity.client_id or None


def _same_origin(socket: WebSocket) -> bool:
    origin = socket.headers.get("origin")
    host = socket.headers.get("host", "")
    try:
        return not origin or urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False  # not a URL


def _session_json(config: SessionConfig) -> dict[str, object]:
    return {
        "GroupID": config.group_id,
        "CallID": config.call_id,
        "UserID": config.user_id,
        "SessionID": config.session_id,
        "Props": {
            "av1Support": config.av1_support,
            "channelID": config.channel_id,
            "dcSignaling": config.dc_signaling,
        },
    }


def _json(value: object) -> Response:
    return Response(json.dumps(value, separators=(",", ":")) + "\n", media_type="application/json")
