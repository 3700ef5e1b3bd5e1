"""A Mattermost server as the signaling sees it, in memory: for tests on virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest

from callclient.signaling.socket import Endpoint, SocketLost
from callclient.signaling.wire import ACTION_PREFIX


class MemorySocket:
    """One connection. The server's side: `say`, `close_by_server`; `dead` swallows everything."""

    def __init__(self, server: MemoryServer, number: int) -> None:
        self.server = server
        self.id = f"conn{number}"
        self.frames: list[dict[str, Any]] = []
        self.at_s: list[float] = []
        """When each frame came."""
        self.dead = False
        self.aborted = self.closed = False
        self._to_client: asyncio.Queue[str | None] = asyncio.Queue()

    async def send(self, frame: str | bytes) -> None:
        if self.closed:
            raise SocketLost("the server closed it (code 1006)")
        if self.dead:
            return
        size = len(frame.encode() if isinstance(frame, str) else frame)
        assert size <= 8192, "the server closes on such a frame"
        value = json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame, raw=False)
        self.frames.append(value)
        self.at_s.append(asyncio.get_running_loop().time())
        self.server.received(self, value)

    async def receive(self) -> str | bytes:
        frame = await self._to_client.get()
        if frame is None:
            raise SocketLost("the server closed it (code 1006)")
        return frame

    async def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = self.closed = True

    def say(self, event: str, data: dict[str, Any], **broadcast: str) -> None:
        """An event, as the server numbers and scopes it."""
        if not self.dead:
            frame = {"event": event, "data": data, "broadcast": broadcast, "seq": 1}
            self._to_client.put_nowait(json.dumps(frame))

    def say_raw(self, text: str) -> None:
        self._to_client.put_nowait(text)

    def close_by_server(self) -> None:
        self.closed = True
        self._to_client.put_nowait(None)

    @property
    def actions(self) -> list[str]:
        """Without pings and prefix."""
        names = [value["action"].removeprefix(ACTION_PREFIX) for value in self.frames]
        return [name for name in names if name != "ping"]


@dataclass
class MemoryServer:
    """Says hello to every connection; takes nobody in while `cut`."""

    sockets: list[MemorySocket] = field(default_factory=list)
    attempts_at_s: list[float] = field(default_factory=list)
    cut: bool = False
    blackhole: bool = False
    """Attempts to connect meet silence instead of a refusal."""
    silent: bool = False
    """No hello."""
    on_action: dict[str, Callable[[MemorySocket, dict[str, Any]], None]] = field(
        default_factory=dict
    )
    server_ms: int = 5_000

    async def open(self, endpoint: Endpoint, timeout_s: float) -> MemorySocket:
        self.attempts_at_s.append(asyncio.get_running_loop().time())
        if self.cut:
            if self.blackhole:
                await asyncio.sleep(timeout_s)
                raise SocketLost(f"no answer within {timeout_s:g} s")
            raise SocketLost("Connection refused")
        socket = MemorySocket(self, len(self.sockets))
        self.sockets.append(socket)
        if not self.silent:
            socket.say("hello", {"connection_id": socket.id})
        return socket

    def received(self, socket: MemorySocket, value: dict[str, Any]) -> None:
        if value["action"] == "ping":
            data = {"text": "pong", "server_time": self.server_ms}
            socket.say_raw(json.dumps({"status": "OK", "seq_reply": value["seq"], "data": data}))
        handler = self.on_action.get(value["action"].removeprefix(ACTION_PREFIX))
        if handler is not None:
            handler(socket, value["data"] or {})

    def lose(self) -> None:
        """Cut every connection and refuse new ones."""
        self.cut = True
        for socket in self.sockets:
            if not socket.closed:
                socket.close_by_server()

    def pull_the_cable(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        self.cut = self.blackhole = True
        for socket in self.sockets:
            socket.dead = True

    def come_back(self) -> None:
        self.cut = self.blackhole = False


@pytest.fixture
def mattermost() -> MemoryServer:
    return MemoryServer()
