"""The WebSocket is opened and spoken by the rules of calls-plugin.md 1, against a real one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from callclient.errors import NotAuthenticated, SignalingFailed
from callclient.signaling import connection as connection_module
from callclient.signaling.connection import SignalingConnection
from callclient.signaling.socket import Endpoint
from callclient.signaling.wire import ACTION_PREFIX, WireEvent


@dataclass
class FakeServer:
    """Says hello to every connection unless told otherwise; keeps what it is told."""

    silent: bool = False
    frames: list[list[dict[str, Any]]] = field(default_factory=list)
    """By connection."""
    headers: list[dict[str, str]] = field(default_factory=list)
    sockets: list[ServerConnection] = field(default_factory=list)
    server: Server | None = None
    something: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, socket: ServerConnection) -> None:
        number = len(self.sockets)
        self.sockets.append(socket)
        self.frames.append([])
        assert socket.request is not None
        self.headers.append(dict(socket.request.headers))
        if not self.silent:
            if number:
                # A returning client speaks first.
                self._took(number, await socket.recv())
            hello = {"event": "hello", "data": {"connection_id": f"conn{number}"}}
            await socket.send(json.dumps(hello))
        async for frame in socket:
            self._took(number, frame)
            value = self.frames[number][-1]
            if value["action"] == "ping":
                reply = {"status": "OK", "seq_reply": value["seq"], "data": {"server_time": 5_000}}
                await socket.send(json.dumps(reply))

    def _took(self, number: int, frame: str | bytes) -> None:
        self.frames[number].append(json.loads(frame))
        self.something.set()

    def actions(self, number: int) -> list[str]:
        names = [value["action"].removeprefix(ACTION_PREFIX) for value in self.frames[number]]
        return [name for name in names if name != "ping"]

    async def until(self, condition) -> None:
        async with asyncio.timeout(25):
            while not condition():
                self.something.clear()
                await self.something.wait()

    @property
    def url(self) -> str:
        assert self.server is not None
        host, port = next(iter(self.server.sockets)).getsockname()[:2]
        return f"http://{host}:{port}"


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = FakeServer()
    async with serve(fake.handle, "127.0.0.1", 0) as running:
        fake.server = running
        yield fake


@dataclass
class Client:
    connection: SignalingConnection
    task: asyncio.Task[None]
    events: list[WireEvent]
    changes: list[str]


@asynccontextmanager
async def connected(server: FakeServer) -> AsyncIterator[Client]:
    events: list[WireEvent] = []
    changes: list[str] = []

    async def on_event(event: WireEvent) -> None:
        events.append(event)
        server.something.set()

    def changed(what: str) -> None:
        changes.append(what)
        server.something.set()

    connection = SignalingConnection(
        Endpoint(server.url, "the-token"),
        channel_id="channel",
        reconnect_limit_s=10,
        on_event=on_event,
        on_lost=lambda: changed("lost"),
        on_restored=lambda: changed("restored"),
    )
    task: asyncio.Task[None] = asyncio.create_task(connection.run())
    try:
        yield Client(connection, task, events, changes)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_token_travels_as_bearer_and_without_an_origin(server: FakeServer) -> None:
    async with connected(server) as client:
        await client.connection.until_hello()
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert headers["authorization"] == "Bearer the-token"
    assert "origin" not in headers


async def test_a_missing_hello_is_a_refusal(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_HELLO_TIMEOUT_S", 0.2)
    server.silent = True
    async with connected(server) as client:
        with pytest.raises(NotAuthenticated):
            await client.task


async def test_nobody_listening_is_a_failure_at_once() -> None:
    fake = FakeServer()
    async with serve(fake.handle, "127.0.0.1", 0) as running:
        fake.server = running
        url = fake.url
    fake = FakeServer()
    connection = SignalingConnection(
        Endpoint(url, "t"),
        channel_id="c",
        reconnect_limit_s=10,
        on_event=lambda event: asyncio.sleep(0),
        on_lost=lambda: None,
        on_restored=lambda: None,
    )
    with pytest.raises(SignalingFailed, match="could not be used"):
        await connection.run()


async def test_nothing_goes_out_before_the_hello(server: FakeServer) -> None:
    server.silent = True
    async with connected(server) as client:
        client.connection.control("join", {})
        async with asyncio.timeout(25):
            while not server.sockets:
                await asyncio.sleep(0.01)
        assert server.frames == [[]]
        hello = {"event": "hello", "data": {"connection_id": "late"}}
        await server.sockets[0].send(json.dumps(hello))
        await server.until(lambda: server.actions(0) == ["join"])
        assert client.connection.id == "late"


async def test_events_come_in_order_and_nonsense_is_passed_over(server: FakeServer) -> None:
    async with connected(server) as client:
        await client.connection.until_hello()
        for frame in ("no json", "[]", "[" * 50_000, '{"event":"a"}', '{"event":"b"}'):
            await server.sockets[0].send(frame)
        await server.until(lambda: len(client.events) == 2)
        assert [event.name for event in client.events] == ["a", "b"]


async def test_the_pings_of_the_server_are_answered(server: FakeServer) -> None:
    """Its deadline for reading is put off by pongs only."""
    async with connected(server) as client:
        await client.connection.until_hello()
        pong = await server.sockets[0].ping()
        async with asyncio.timeout(25):
            await pong


async def test_the_server_s_clock_is_measured_by_pings(server: FakeServer) -> None:
    async with connected(server) as client:
        await server.until(
            lambda: bool(server.frames) and any(f["action"] == "ping" for f in server.frames[0])
        )
        async with asyncio.timeout(25):
            while not client.connection.clock.measured_once:
                await asyncio.sleep(0.01)
        clock = client.connection.clock
        assert clock.to_monotonic_ns(6_000) - clock.to_monotonic_ns(5_000) == 1_000_000_000


async def test_a_goodbye_overtakes_what_waits(server: FakeServer) -> None:
    async with connected(server) as client:
        await client.connection.until_hello()
        await client.connection.say_goodbye()
        client.connection.keep_session()
        await client.connection.say_goodbye()
        await server.until(lambda: server.actions(0) == ["leave"])
