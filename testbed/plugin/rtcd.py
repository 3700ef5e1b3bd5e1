"""The stand-in's client of the SFU: rtcd's HTTP API and WebSocket (rtcd.md 2, 4)."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from foundation.channel import Channel
from foundation.groups import unwrapped
from foundation.logs import get_logger
from sfu import messages
from sfu.messages import Hello, Message, MessageError

_CAPACITY = 2000
_TIMEOUT_S = 10.0
_RECONNECT_S = 1.0


class RtcdError(Exception):
    """The SFU cannot be used; the message says which step failed."""


class RtcdClient:
    """One connection to one SFU, kept up. `run` in a task; `send` from anywhere."""

    def __init__(
        self,
        url: str,
        *,
        on_message: Callable[[Message], Awaitable[None]],
        live_sessions: Callable[[], list[str]],
        client_id: str = "standin",
        auth_key: str = "",
    ) -> None:
        """`live_sessions()` are bound anew to the connection after a reconnect."""
        self._url = url.rstrip("/")
        self._client_id = client_id
        self._auth_key = auth_key or secrets.token_urlsafe(24)
        self._on_message = on_message
        self._live_sessions = live_sessions
        self._outgoing: Channel[bytes] = Channel(_CAPACITY)
        self.connected = asyncio.Event()
        self.version = ""
        self._log = get_logger(component="rtcd-client")

    async def register(self) -> None:
        """Check the version and register; known clients pass. Raises RtcdError."""
        try:
            async with httpx.AsyncClient(base_url=self._url, timeout=_TIMEOUT_S) as http:
                response = await http.get("/version")
                self.version = str(response.json().get("buildVersion", ""))
                body = {"clientID": self._client_id, "authKey": self._auth_key}
                response = await http.post(
                    "/register", json=body, headers={"Authorization": self._basic()}
                )
        except (httpx.HTTPError, ValueError) as error:
            raise RtcdError(
                f"the SFU at {self._url} does not answer: {type(error).__name__}"
            ) from (error)
        if response.status_code not in (201, 400):
            raise RtcdError(f"the SFU refused the registration with HTTP {response.status_code}")

    def send(self, message: Message) -> None:
        """Queue a message; a full queue drops it with a log line, as the plugin's does."""
        if not self._outgoing.offer(messages.encode(message)):
            self._log.error("rtcd.message_dropped")

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        while True:
            try:
                with unwrapped(OSError, websockets.WebSocketException):
                    await self._connect_once()
            except (OSError, websockets.WebSocketException, TimeoutError) as error:
                self._log.warning("rtcd.connection_lost", reason=type(error).__name__)
            self.connected.clear()
            await asyncio.sleep(_RECONNECT_S)

    async def _connect_once(self) -> None:
        url = self._url.replace("http", "ws", 1) + "/ws"
        connecting = websockets.connect(
            url,
            additional_headers={"Authorization": self._basic()},
            max_size=1 << 20,
            open_timeout=_TIMEOUT_S,
            ping_interval=None,  # the server pings (rtcd.md 2.1)
            proxy=None,
        )
        async with connecting as socket, asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._write(socket), name="rtcd-write")
            try:
                await self._read(socket)
            finally:
                writer.cancel()

    async def _write(self, socket: ClientConnection) -> None:
        async for frame in self._outgoing:
            await socket.send(frame)

    async def _read(self, socket: ClientConnection) -> None:
        async for frame in socket:
            if isinstance(frame, str):
                continue
            try:
                message = messages.decode(frame)
            except MessageError as error:
                self._log.warning("rtcd.message_refused", reason=str(error))
                continue
            if isinstance(message, Hello):
                for session_id in self._live_sessions():
                    await socket.send(messages.encode(messages.Reconnect(session_id)))
                self.connected.set()
            else:
                await self._on_message(message)

    def _basic(self) -> str:
        pair = f"{self._client_id}:{self._auth_key}".encode()
        return "Basic " + base64.b64encode(pair).decode()
