"""The stand-in's application between a played SFU and a played job service, spoken to without sockets.

Nothing waits for real time: the clocks that the stand-in reads follow the event loop's, which is virtual
under looptime. The answer to a core `ping` is the barrier: what an action did was done before it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgpack
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect

from sfu.messages import Hello, Message, decode, encode
from testbed.plugin.app import create_app
from testbed.plugin.hub import PREFIX
from testbed.plugin.job_service import JobServiceError, PluginSettings
from testbed.plugin.rtcd import Credentials, RtcdError

_PLUGIN = "/plugins/com.mattermost.calls"
_BOT = "calls"
_EPOCH_MS = 1_764_000_000_000
_SITE_URL = "http://standin:8065"
_PATIENCE_S = 25.0


class LoopTime:
    """Takes the place of the `time` module: the loop's clock, virtual in the body of a looptime test.

    In fixtures the loop's time is real, so that a stand-in should be asked from the test's body only.
    """

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def time_ns() -> int:
        return _EPOCH_MS * 1_000_000 + round(asyncio.get_running_loop().time() * 1e9)


class Sfu:
    """The SFU as the stand-in's core sees it: `sent` is what it was told."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.say: Callable[[Message], Awaitable[None]]
        self.missing = ""
        """Why there is no host for a new call."""

    def __call__(
        self, url: object, credentials: object, *, on_message: Any, **options: object
    ) -> Sfu:
        self.say = on_message
        return self

    async def activate(self) -> None:
        return None

    def version(self) -> dict[str, str]:
        return {"buildVersion": "v1.2.6", "buildHash": "abc", "goOS": "linux"}

    async def host_for_new_call(self) -> str:
        if self.missing:
            raise RtcdError(self.missing)
        return "192.0.2.1"

    async def run(self) -> None:
        await asyncio.Event().wait()

    def send(self, address: str, message: Message) -> None:
        assert address == "192.0.2.1", "the call's SFU"
        self.sent.append(message)

    def taken(self) -> list[Message]:
        """What was sent since the last look."""
        sent, self.sent = self.sent, []
        return sent


class JobService:
    """Takes every job but those of the types in `refuse`."""

    def __init__(self) -> None:
        self.initialized = True
        self.created: list[tuple[str, dict[str, Any]]] = []
        self.refuse: dict[str, str] = {}

    def __call__(self, url: str, settings: PluginSettings) -> JobService:
        return self

    async def initialize_when_up(self) -> None:
        return None

    async def create(self, type_: str, input_data: dict[str, Any]) -> str:
        if type_ in self.refuse:
            raise JobServiceError(self.refuse[type_])
        self.created.append((type_, input_data))
        return f"service-{type_}"


@dataclass(frozen=True)
class Event:
    """A server event; the name without the calls prefix."""

    name: str
    data: dict[str, Any]
    broadcast: dict[str, Any]
    seq: int


class Events(list[Event]):
    """What one connection heard, in order."""

    @property
    def names(self) -> list[str]:
        return [event.name for event in self]

    def only(self, name: str) -> Event:
        """The one event of that name."""
        [event] = [e for e in self if e.name == name]
        return event

    @property
    def job_states(self) -> list[dict[str, Any]]:
        return [e.data["jobState"] for e in self if e.name == "call_job_state"]

    @property
    def stopped(self) -> list[str]:
        """The jobs that were asked to stop."""
        return [e.data["job_id"] for e in self if e.name == "job_stop"]

    @property
    def state(self) -> dict[str, Any]:
        """The call of the one `call_state`."""
        document: dict[str, Any] = json.loads(self.only("call_state").data["call"])
        return document


class Socket:
    """A WebSocket client that sits directly on the ASGI application."""

    def __init__(self, app: FastAPI, headers: dict[str, str]) -> None:
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._frames: asyncio.Queue[str | None] = asyncio.Queue()
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._seq = 0
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/api/v4/websocket",
            "raw_path": b"/api/v4/websocket",
            "query_string": b"",
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8065),
            "subprotocols": [],
        }
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._serving = asyncio.create_task(app(scope, self._to_app.get, self._from_app))
        self._serving.add_done_callback(lambda _: self._frames.put_nowait(None))

    async def _from_app(self, message: Any) -> None:
        match message["type"]:
            case "websocket.accept":
                self.opened.set()
            case "websocket.send":
                await self._reading.wait()
                self._frames.put_nowait(message["text"])
            case "websocket.close":
                self.closed.set()
                self._frames.put_nowait(None)
                self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1000})

    def hold(self) -> None:
        """Read nothing, as a client that hangs."""
        self._reading.clear()

    def release(self) -> None:
        self._reading.set()

    def send_text(self, text: str) -> None:
        self._to_app.put_nowait({"type": "websocket.receive", "text": text})

    def send_bytes(self, data: bytes) -> None:
        self._to_app.put_nowait({"type": "websocket.receive", "bytes": data})

    def send(self, action: str, data: Any = None, *, binary: bool = False) -> int:
        """A request; the `seq` it went out with."""
        self._seq += 1
        frame = {"action": action, "seq": self._seq, "data": data}
        if binary:
            self.send_bytes(msgpack.packb(frame, use_bin_type=True))
        else:
            self.send_text(json.dumps(frame))
        return self._seq

    async def frame(self) -> dict[str, Any]:
        """The next frame of the server. Raises ConnectionError when it closed."""
        text = await self._frames.get()
        if text is None:
            raise ConnectionError("the server closed the WebSocket")
        frame: dict[str, Any] = json.loads(text)
        return frame

    async def drop(self) -> None:
        """The connection is lost; returns when the server has noticed."""
        self.release()
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await self._serving


class Client:
    """A user's authenticated connection."""

    def __init__(self, socket: Socket, hello: dict[str, Any], channel_id: str) -> None:
        self.socket = socket
        self.connection_id: str = hello["data"]["connection_id"]
        self.user_id: str = hello["broadcast"]["user_id"]
        self._channel_id = channel_id

    async def heard(self) -> Events:
        """All events since the last look, once everything sent before was dealt with."""
        wanted = self.socket.send("ping")
        events = Events()
        while True:
            frame = await self.socket.frame()
            if frame.get("seq_reply") == wanted:
                return events
            name = frame["event"].removeprefix(PREFIX)
            events.append(Event(name, frame["data"], frame["broadcast"], frame["seq"]))

    async def act(self, action: str, data: Any = None, *, binary: bool = False) -> Events:
        """One calls action; everything that this connection heard up to its end."""
        self.socket.send(PREFIX + action, data, binary=binary)
        return await self.heard()

    async def join(self, job_id: str = "", **more: Any) -> Events:
        data = {"channelID": self._channel_id, "jobID": job_id} | more
        return await self.act("join", data)

    async def reconnect(self, session_id: str, previous: str) -> Events:
        data = {
            "channelID": self._channel_id,
            "originalConnID": session_id,
            "prevConnID": previous,
        }
        return await self.act("reconnect", data)


class StandIn:
    """The running application and its surroundings."""

    plugin = _PLUGIN
    site_url = _SITE_URL

    def __init__(self, app: FastAPI, data_dir: Path, sfu: Sfu, job_service: JobService) -> None:
        self.app = app
        self.sfu = sfu
        self.job_service = job_service
        self.world: dict[str, Any] = json.loads((data_dir / "world.json").read_text())
        self.channel_id: str = self.world["channel_id"]
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://standin"
        )
        self._sockets: list[Socket] = []

    def token(self, who: str) -> str:
        account = self.world["bot"] if who == _BOT else self.world["users"][who]
        return str(account["token"])

    def user_id(self, who: str) -> str:
        account = self.world["bot"] if who == _BOT else self.world["users"][who]
        return str(account["user_id"])

    def bearer(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(who)}"}

    def open(self, headers: dict[str, str] | None = None) -> Socket:
        """A WebSocket, authenticated or not."""
        socket = Socket(self.app, headers or {})
        self._sockets.append(socket)
        return socket

    async def connect(self, who: str) -> Client:
        socket = self.open(self.bearer(who))
        hello = await socket.frame()
        assert hello["event"] == "hello"
        return Client(socket, hello, self.channel_id)

    async def joined(self, who: str, job_id: str = "") -> Client:
        client = await self.connect(who)
        events = await client.join(job_id)
        assert "join" in events.names, events
        return client

    async def request(
        self, method: str, path: str, *, who: str | None = _BOT, **options: Any
    ) -> httpx.Response:
        headers = (self.bearer(who) if who else {}) | options.pop("headers", {})
        return await self._http.request(method, path, headers=headers, **options)

    async def get(self, path: str, *, who: str | None = _BOT) -> httpx.Response:
        """A route of the plugin."""
        return await self.request("GET", _PLUGIN + path, who=who)

    async def post(
        self, path: str, body: Any = None, *, who: str | None = _BOT, **options: Any
    ) -> httpx.Response:
        return await self.request("POST", _PLUGIN + path, who=who, json=body, **options)

    async def record(self, action: str = "start", *, who: str = "alice") -> httpx.Response:
        """The host presses the button."""
        return await self.post(f"/calls/{self.channel_id}/recording/{action}", who=who)

    async def report(self, job_id: str, **body: str) -> httpx.Response:
        return await self.post(f"/bot/calls/{self.channel_id}/jobs/{job_id}/status", body)

    async def call(self) -> dict[str, Any]:
        """The call as the testbed's own route shows it."""
        response = await self.request("GET", f"/testbed/calls/{self.channel_id}", who=None)
        document: dict[str, Any] = response.json()
        return document

    async def job_id(self, type_: str) -> str:
        return str((await self.call())["jobs"][type_]["job_id"])

    async def posts(self) -> list[dict[str, Any]]:
        response = await self.request("GET", f"/testbed/posts/{self.channel_id}", who=None)
        document: list[dict[str, Any]] = response.json()
        return document

    async def fault(self, **values: Any) -> httpx.Response:
        return await self.request("POST", "/testbed/faults", who=None, json=values)

    @staticmethod
    def now_ms() -> int:
        """The stand-in's clock."""
        return LoopTime.time_ns() // 1_000_000

    @staticmethod
    def result(response: httpx.Response) -> tuple[int, str]:
        """Status and text of an answer that should be a result object; it repeats the status."""
        body = response.json()
        assert body["status_code"] == response.status_code
        return response.status_code, body["message"]

    async def close(self) -> None:
        for open_socket in self._sockets:
            await open_socket.drop()
        await self._http.aclose()


Start = Callable[..., Awaitable[StandIn]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Start a stand-in whose plugin settings differ from the defaults in `settings`."""
    monkeypatch.setattr("testbed.plugin.server_clock.time", LoopTime)
    async with AsyncExitStack() as stack:

        async def start_one(
            *,
            max_file_size_bytes: int = 104_857_600,
            stack: AsyncExitStack = stack,
            **settings: Any,
        ) -> StandIn:
            sfu, job_service = Sfu(), JobService()
            monkeypatch.setattr("testbed.plugin.app.RtcdHosts", sfu)
            monkeypatch.setattr("testbed.plugin.app.JobServiceClient", job_service)
            app = create_app(
                rtcd_url="http://sfu:8045",
                rtcd_credentials=Credentials("standin", "k" * 32),
                job_service_url="http://job-service",
                data_dir=tmp_path,
                settings=PluginSettings(site_url=_SITE_URL, **settings),
                max_file_size_bytes=max_file_size_bytes,
            )
            await stack.enter_async_context(app.router.lifespan_context(app))
            standin = StandIn(app, tmp_path, sfu, job_service)
            stack.push_async_callback(standin.close)
            return standin

        yield start_one


@pytest.fixture
async def standin(start: Start) -> StandIn:
    """One with transcriptions and live captions."""
    return await start()


@asynccontextmanager
async def _serving(app: FastAPI) -> AsyncIterator[str]:
    """Serve an application on a free port of loopback; its URL."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio holds answers back for 40 ms
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    started = asyncio.Event()
    app.router.on_startup.append(started.set)
    task = asyncio.create_task(server._serve([listener]))
    try:
        await started.wait()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


class PlayedSfu:
    """Greets every connection; a test reads what it got and says what it wants."""

    def __init__(self) -> None:
        self.url = ""
        self.registration_status = 201
        self.version: Any = {"buildVersion": "v1.2.6"}
        self.registrations: list[tuple[str, dict[str, str]]] = []
        self.authorizations: list[str] = []
        self.hosts: list[str] = []
        """The Host header of each request."""
        self.known: set[str] = set()
        """Authorizations that may connect."""
        self.received: asyncio.Queue[Message] = asyncio.Queue()
        self.connections: asyncio.Queue[WebSocket] = asyncio.Queue()
        self.app = FastAPI()
        self.load: Any = {"cpu_load": 0.25}
        self.app.get("/version")(self._version)
        self.app.get("/system")(self._system)
        self.app.post("/register")(self._register)
        self.app.websocket("/ws")(self._websocket)

    async def _version(self, request: Request) -> Any:
        self.hosts.append(request.headers["host"])
        return self.version

    async def _system(self) -> Any:
        return self.load

    async def _register(self, request: Request) -> Response:
        self.registrations.append((request.headers["authorization"], await request.json()))
        if self.registration_status == 201:
            self.known.add(request.headers["authorization"])
        return Response(status_code=self.registration_status)

    async def _websocket(self, socket: WebSocket) -> None:
        self.authorizations.append(socket.headers["authorization"])
        self.hosts.append(socket.headers["host"])
        if socket.headers["authorization"] not in self.known:
            await socket.close()
            return
        await socket.accept()
        await socket.send_bytes(encode(Hello("standin", "c1")))
        self.connections.put_nowait(socket)
        try:
            while True:
                self.received.put_nowait(decode(await socket.receive_bytes()))
        except (WebSocketDisconnect, RuntimeError):
            return

    async def connection(self) -> WebSocket:
        async with asyncio.timeout(_PATIENCE_S):
            return await self.connections.get()

    async def next(self) -> Message:
        async with asyncio.timeout(_PATIENCE_S):
            return await self.received.get()


@pytest.fixture
async def played_sfu() -> AsyncIterator[PlayedSfu]:
    played = PlayedSfu()
    async with _serving(played.app) as played.url:
        yield played
