"""The Mattermost WebSocket: authentication, frames, keepalive (sections 1.1–1.4)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import msgpack
from fastapi import WebSocket, WebSocketDisconnect

from foundation.logs import get_logger
from testbed.plugin.actions import Actions
from testbed.plugin.calls import Calls
from testbed.plugin.hub import PREFIX, Connection
from testbed.plugin.origins import AllowedOrigins
from testbed.plugin.server_clock import now_ms
from testbed.plugin.world import User

MAX_FRAME_BYTES = 8192
AUTHENTICATION_TIMEOUT_S = 5.0


class MattermostSocket:
    """One connection from its upgrade to its end."""

    def __init__(
        self, socket: WebSocket, calls: Calls, actions: Actions, origins: AllowedOrigins
    ) -> None:
        self._socket = socket
        self._calls = calls
        self._actions = actions
        self._origins = origins
        self._connection: Connection | None = None
        self._log = get_logger(component="websocket")

    async def serve(self) -> None:
        """Until the client goes, sends too much, or does not authenticate in time.

        A page of a foreign origin is refused. A bad bearer token does not fail the upgrade: only the
        `hello` is missing (trap 14).
        """
        headers = self._socket.headers
        if not self._origins.allow(headers.get("origin"), headers.get("host", "")):
            self._log.warning("ws.foreign_origin")
            await self._socket.close()  # before it is accepted: HTTP 403
            return
        await self._socket.accept()
        try:
            await self._read_until_closed(self._bearer_user())
        finally:
            self._end()

    async def _read_until_closed(self, user: User | None) -> None:
        writer: asyncio.Task[None] | None = None
        try:
            if user is not None:
                writer = self._authenticated(user, challenge_seq=None)
            else:
                async with asyncio.timeout(AUTHENTICATION_TIMEOUT_S):
                    writer = await self._challenge()
            await self._read()
        except (TimeoutError, WebSocketDisconnect, RuntimeError, _CloseSocket):
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._socket.close()
        finally:
            if writer is not None:
                writer.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await writer

    def _bearer_user(self) -> User | None:
        header = self._socket.headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        return self._calls.world.by_token(token.strip()) if scheme.lower() == "bearer" else None

    async def _challenge(self) -> asyncio.Task[None]:
        """Wait for a valid `authentication_challenge`; everything else before it is ignored."""
        while True:
            frame = await self._frame()
            if frame.get("action") != "authentication_challenge":
                continue
            data = frame.get("data")
            token = data.get("token") if isinstance(data, dict) else None
            user = self._calls.world.by_token(token) if isinstance(token, str) else None
            if user is None:
                raise _CloseSocket
            return self._authenticated(user, challenge_seq=_seq(frame))

    def _authenticated(self, user: User, *, challenge_seq: int | None) -> asyncio.Task[None]:
        connection = self._connection = Connection(user)
        self._calls.hub.add(connection)
        hello = {
            "connection_id": connection.connection_id,
            "server_version": "11.0.0.11.0.0.standin.true",
        }
        connection.event("hello", hello, user_id=user.user_id)
        if challenge_seq is not None:
            connection.accepted(challenge_seq)
        return asyncio.create_task(self._write(connection), name="ws-write")

    async def _write(self, connection: Connection) -> None:
        try:
            async for text in connection.outgoing:
                await self._socket.send_text(text)
            await self._socket.close()  # the queue was full, or a test cut the connection
        except (WebSocketDisconnect, RuntimeError):
            return

    async def _read(self) -> None:
        connection = self._connection
        assert connection is not None
        while True:
            frame = await self._frame()
            action, seq = frame.get("action"), _seq(frame)
            if not isinstance(action, str):
                continue
            if action.startswith(PREFIX):
                name = action.removeprefix(PREFIX)
                await self._actions.perform(connection, name, frame.get("data"))
            elif seq <= 0:
                connection.fail(seq, "api.web_socket_router.bad_seq.app_error", "bad sequence")
            elif action == "ping":
                answer = {
                    "text": "pong",
                    "version": "11.0.0",
                    "server_time": now_ms(),
                    "node_id": "",
                }
                connection.reply(seq, answer)
            elif action != "authentication_challenge":
                connection.fail(seq, "api.web_socket_router.bad_action.app_error", "bad action")

    async def _frame(self) -> dict[str, Any]:
        """The next frame as an object; too large ones close the connection."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            text, data = message.get("text"), message.get("bytes")
            size = len(text.encode()) if text is not None else len(data or b"")
            if size > MAX_FRAME_BYTES:
                self._log.warning("ws.frame_too_large", bytes=size)
                raise _CloseSocket
            try:
                value = json.loads(text) if text is not None else msgpack.unpackb(data, raw=False)
            except (ValueError, msgpack.UnpackException):
                self._log.warning("ws.frame_refused")
                continue
            if isinstance(value, dict):
                is_text_sdp = text is not None and value.get("action") == f"{PREFIX}sdp"
                if is_text_sdp:  # only binary frames may carry it (trap 9)
                    self._log.warning("sdp.refused", reason="text frame")
                    continue
                return value

    def _end(self) -> None:
        if self._connection is not None:
            self._calls.hub.remove(self._connection)
            self._calls.connection_lost(self._connection)


class _CloseSocket(Exception):
    """The client broke a rule: close the connection."""


def _seq(frame: dict[str, Any]) -> int:
    seq = frame.get("seq")
    return seq if isinstance(seq, int) else 0
