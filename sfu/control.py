"""The control plane: HTTP API and the WebSocket by which the plugin drives the SFU (rtcd.md 1.4, 2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException

from clientauth.http import auth_router
from clientauth.service import AuthError, ClientAuth
from foundation.channel import Channel, ChannelClosed
from foundation.identifiers import new_id
from foundation.logs import get_logger
from foundation.version import build_version
from sfu.media_port import JoinError, MediaServer, SessionConfig, SessionOutlet
from sfu.messages import (
    Close,
    Hello,
    Join,
    Leave,
    Message,
    MessageError,
    Reconnect,
    Rtc,
    Vad,
    decode,
    encode,
)
from sfu.system_load import SystemLoad

_SEND_CAPACITY = 5000
_LOAD_INTERVAL_S = 1.0


class PluginConnection:
    """One WebSocket of a client: decodes, checks ownership, hands on; sends from one bounded queue."""

    def __init__(self, socket: WebSocket, client_id: str, media: MediaServer) -> None:
        self._socket = socket
        self._client_id = client_id
        self._media = media
        self._outgoing: Channel[bytes] = Channel(_SEND_CAPACITY)
        self._log = get_logger(component="control")

    async def serve(self) -> None:
        """Until the socket closes; sessions live on without it (rtcd.md 2.3)."""
        self._send(Hello(self._client_id, new_id()))
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write(), name="ws-write")
            try:
                await self._read()
            finally:
                self._outgoing.close()
                writer.cancel()

    async def _read(self) -> None:
        while True:
            try:
                frame = await self._socket.receive()
            except RuntimeError:
                return
            if frame["type"] == "websocket.disconnect":
                return
            data = frame.get("bytes")
            if data is None:
                self._log.warning("ws.text_frame_ignored")
                continue
            try:
                await self._handle(decode(data))
            except MessageError as error:
                self._log.warning("ws.message_refused", reason=str(error))

    async def _handle(self, message: Message) -> None:
        match message:
            case Join():
                await self._join(message)
            case Rtc(inner):
                if self._owns(inner.session_id):
                    await self._media.handle(inner.session_id, inner)
            case Leave(session_id):
                if self._owns(session_id):
                    await self._media.leave(session_id)
            case Reconnect(session_id):
                if self._owns(session_id):
                    self._media.rebind(session_id, self._outlet())
            case _:
                self._log.warning("ws.message_refused", reason="only the SFU sends this type")

    async def _join(self, message: Join) -> None:
        config = SessionConfig(
            group_id=self._client_id,  # whatever the client says (rtcd.md 2.2)
            call_id=message.call_id,
            user_id=message.user_id,
            session_id=message.session_id,
            channel_id=message.channel_id,
            av1_support=message.av1_support,
            dc_signaling=message.dc_signaling,
        )
        try:
            await self._media.join(config, self._outlet())
        except JoinError as error:
            self._log.warning("join.refused", reason=str(error), session_id=message.session_id)
            # The original says nothing, and its client waits 15 s; but a live session of the same id
            # must not hear that it ended.
            if message.session_id and self._media.session(message.session_id) is None:
                self._send(Close(message.session_id))

    def _owns(self, session_id: str) -> bool:
        config = self._media.session(session_id)
        if config is None or config.group_id != self._client_id:
            self._log.info("ws.unknown_session", session_id=session_id)
            return False
        return True

    def _outlet(self) -> SessionOutlet:
        def send(message: Rtc | Vad | Close) -> None:
            self._send(message)

        return send

    def _send(self, message: Message) -> None:
        try:
            if not self._outgoing.offer(encode(message)):
                self._log.error("ws.message_dropped", reason="send queue is full")
        except ChannelClosed:
            return  # the plugin is away; its sessions go on

    async def _write(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            async for frame in self._outgoing:
                await self._socket.send_bytes(frame)


def create_app(*, media: MediaServer, auth: ClientAuth) -> FastAPI:
    """The application: everything the SFU offers over HTTP."""
    load = SystemLoad()
    state = {"cpu_load": load.sample()}

    async def watch_load() -> None:
        while True:
            await asyncio.sleep(_LOAD_INTERVAL_S)
            state["cpu_load"] = load.sample()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(watch_load(), name="system-load")
            yield
            watcher.cancel()

    app = FastAPI(
        title="SFU",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.include_router(auth_router(auth))

    @app.exception_handler(HTTPException)
    async def not_found(_: Request, error: Exception) -> Response:
        # The original answers a wrong method like an unknown path.
        assert isinstance(error, HTTPException)
        status = 404 if error.status_code == 405 else error.status_code
        return PlainTextResponse(f"{status} page not found\n", status_code=status)

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

    @app.get("/system")
    async def system() -> dict[str, float]:
        return {"cpu_load": state["cpu_load"]}

    @app.get("/calls/{call_id}/sessions")
    async def sessions(request: Request, call_id: str) -> Response:
        group_id = await _group(request, auth)
        if group_id is None:
            return PlainTextResponse("unauthorized\n", status_code=401)
        found = media.sessions(group_id, call_id)
        if found is None:
            text = "failed to get session configs: call not found\n"
            return PlainTextResponse(text, status_code=404)
        return _json([_session_json(config) for config in found])

    @app.get("/calls/{call_id}/sessions/{session_id}")
    async def session(request: Request, call_id: str, session_id: str) -> Response:
        group_id = await _group(request, auth)
        if group_id is None:
            return PlainTextResponse("unauthorized\n", status_code=401)
        found = media.sessions(group_id, call_id)
        if found is None:
            text = "failed to get session config: call not found\n"
            return PlainTextResponse(text, status_code=404)
        for config in found:
            if config.session_id == session_id:
                return _json(_session_json(config))
        text = "failed to get session config: session not found\n"
        return PlainTextResponse(text, status_code=404)

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
        await PluginConnection(socket, identity.client_id, media).serve()

    return app


async def _group(request: Request, auth: ClientAuth) -> str | None:
    """The authenticated client; the admin has no group (rtcd.md 1.4)."""
    try:
        identity = await auth.authenticate(request.headers.get("authorization"), may_register=False)
    except AuthError:
        return None
    return identity.client_id or None


def _same_origin(socket: WebSocket) -> bool:
    origin = socket.headers.get("origin")
    try:
        return not origin or urlsplit(origin).netloc == socket.headers.get("host", "")
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
