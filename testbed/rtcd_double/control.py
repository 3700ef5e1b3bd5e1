"""The double's HTTP API and `/ws`, with the original's silences (rtcd.md 1.4, 2).

Everybody may register; clients are forgotten at the end.
"""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from clientauth.http import auth_router
from clientauth.service import AuthError, ClientAuth
from clientauth.sessions import SessionCache
from clientauth.store import MemoryClientStore
from foundation.channel import Channel, ChannelClosed
from foundation.clock import SystemClock
from foundation.identifiers import new_id
from foundation.logs import get_logger
from sfu.media_port import SessionConfig
from sfu.messages import Close, Hello, Join, Leave, Message, MessageError, Reconnect, Rtc, Vad
from sfu.messages import decode as decode_message
from sfu.messages import encode as encode_message
from testbed.rtcd_double.server import DoubleServer

VERSION = "v1.2.6"
_SEND_CAPACITY = 2000
_LOG = get_logger(component="rtcd-double")


class _PluginConnection:
    """One WebSocket of a plugin node."""

    def __init__(self, socket: WebSocket, client_id: str, media: DoubleServer) -> None:
        self._socket = socket
        self._client_id = client_id
        self._media = media
        self._outgoing: Channel[bytes] = Channel(_SEND_CAPACITY)

    async def serve(self) -> None:
        """Until the socket closes; its sessions go on, and are lost until they are bound anew."""
        self._media.plugins.add(self._outgoing.close)
        self._send(Hello(self._client_id, new_id()))
        writer = asyncio.create_task(self._write(), name="double-ws-write")
        try:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                while True:
                    frame = await self._socket.receive()
                    if frame["type"] == "websocket.disconnect":
                        return
                    await self._received(frame.get("bytes"))
        finally:
            self._media.plugins.discard(self._outgoing.close)
            self._outgoing.close()
            writer.cancel()
            await asyncio.wait([writer])

    async def _received(self, data: bytes | None) -> None:
        if data is None:
            return  # text frames are ignored
        try:
            message = decode_message(data)
        except MessageError as error:
            _LOG.warning("ws.message_refused", reason=str(error))
            return
        match message:
            case Join():
                config = SessionConfig(
                    group_id=self._client_id,
                    call_id=message.call_id,
                    user_id=message.user_id,
                    session_id=message.session_id,
                    channel_id=message.channel_id,
                    av1_support=message.av1_support,
                    dc_signaling=message.dc_signaling,
                )
                await self._media.join(config, self._send)
            case Rtc(inner):
                # Looked up by the session alone: anybody may steer it.
                await self._media.handle(inner.session_id, inner)
            case Leave(session_id):
                await self._media.leave(session_id)
            case Reconnect(session_id):
                self._media.rebind(session_id, self._send)
            case _:
                _LOG.warning("ws.message_refused", reason="unexpected type")

    def _send(self, message: Message | Rtc | Vad | Close) -> None:
        with contextlib.suppress(ChannelClosed):
            if not self._outgoing.offer(encode_message(message)):
                _LOG.error("ws.message_dropped")

    async def _write(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            async for frame in self._outgoing:
                await self._socket.send_bytes(frame)
            await self._socket.close()  # a test cut it


def create_double_app(media: DoubleServer) -> FastAPI:
    """The application."""
    clock = SystemClock()
    auth = ClientAuth(
        store=MemoryClientStore(),
        sessions=SessionCache(expiration_minutes=1440, clock=clock),
        clock=clock,
        allow_self_registration=True,
    )
    app = FastAPI(title="rtcd double", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(auth_router(auth))

    @app.get("/version")
    async def version() -> dict[str, str]:
        return {
            "buildDate": "",
            "buildVersion": VERSION,
            "buildHash": "",
            "goVersion": "",
            "goOS": "linux",
            "goArch": "amd64",
        }

    @app.get("/system")
    async def system() -> dict[str, float]:
        return {"cpu_load": 0.1}

    @app.get("/calls/{call_id}/sessions")
    async def sessions(request: Request, call_id: str) -> Response:
        try:
            identity = await auth.authenticate(
                request.headers.get("authorization"), may_register=False
            )
        except AuthError:
            return PlainTextResponse("unauthorized\n", status_code=401)
        return _sessions(media, identity.client_id, call_id)

    @app.websocket("/ws")
    async def websocket(socket: WebSocket) -> None:
        try:
            identity = await auth.authenticate(
                socket.headers.get("authorization"), may_register=False
            )
        except AuthError:
            # Nothing is written, which a client reads as HTTP 200 with an empty body.
            await socket.send_denial_response(Response(status_code=200))
            return
        await socket.accept()
        await _PluginConnection(socket, identity.client_id, media).serve()

    return app


def _sessions(media: DoubleServer, group: str, call_id: str) -> Response:
    found = media.sessions(group, call_id)
    if found is None:
        text = "failed to get session configs: call not found\n"
        return PlainTextResponse(text, status_code=404)
    return JSONResponse(
        [
            {
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
            for config in found
        ]
    )
