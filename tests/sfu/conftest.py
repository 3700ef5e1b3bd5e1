"""The control plane without a network: HTTP and WebSocket are spoken to the application itself."""

from __future__ import annotations

import asyncio
import base64
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI

from clientauth.service import ClientAuth
from clientauth.sessions import SessionCache
from clientauth.store import MemoryClientStore
from foundation.clock import ManualClock
from sfu.control import create_app
from sfu.flood import FloodLimits
from sfu.media_port import JoinError, MediaServer, SessionConfig, SessionOutlet
from sfu.messages import Close, Hello, Join, Message, RtcMessage, decode, encode
from sfu.metrics import SfuMetrics, Snapshot

KEY = "k" * 32
ADMIN_KEY = "a" * 32
CLIENTS = ("plugin", "other")
_KEY_HASH = bcrypt.hashpw(KEY.encode(), bcrypt.gensalt(4)).decode()  # the cheapest that is accepted
_TIMEOUT_S = 25.0


class RecordedMedia:
    """A media plane that keeps what it was told, and says what a test wants."""

    def __init__(self) -> None:
        self.outlets: dict[str, SessionOutlet] = {}
        self.configs: dict[str, SessionConfig] = {}
        self.handled: list[RtcMessage] = []
        self.metrics = SfuMetrics()
        self.missing = 0

    async def join(self, config: SessionConfig, send: SessionOutlet) -> None:
        if not config.call_id:
            raise JoinError("invalid CallID value: should not be empty")
        if config.session_id in self.configs:
            raise JoinError("user session already exists")
        self.configs[config.session_id] = config
        self.outlets[config.session_id] = send

    async def handle(self, session_id: str, message: RtcMessage) -> None:
        assert session_id == message.session_id
        self.handled.append(message)

    def rebind(self, session_id: str, send: SessionOutlet) -> bool:
        self.outlets[session_id] = send
        return True

    def session(self, session_id: str) -> SessionConfig | None:
        return self.configs.get(session_id)

    def sessions(self, group_id: str, call_id: str) -> list[SessionConfig] | None:
        found = [
            config
            for config in self.configs.values()
            if (config.group_id, config.call_id) == (group_id, call_id)
        ]
        return found or None

    async def leave(self, session_id: str) -> None:
        del self.configs[session_id]
        self.outlets.pop(session_id)(Close(session_id))

    def has_group(self, group_id: str) -> bool:
        return any(config.group_id == group_id for config in self.configs.values())

    def session_count(self) -> int:
        return len(self.configs)

    def missing_processes(self) -> int:
        return self.missing

    async def snapshots(self) -> list[Snapshot]:
        return [self.metrics.snapshot()]


class PluginSocket:
    """One WebSocket of a plugin, as the server's application sees it."""

    def __init__(self, app: FastAPI, headers: dict[str, str]) -> None:
        self._to_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_server: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.writable = asyncio.Event()
        """Clear it and the server's writes wait, as with a peer that reads nothing."""
        self.writable.set()
        self.broken = False
        """True: the server's writes fail."""
        self.hello: Hello | None = None
        """What was received first; None when the connection was refused."""
        self.denial: tuple[int, str] | None = None
        """Status and body of a refusal."""
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/ws",
            "raw_path": b"/ws",
            "root_path": "",
            "query_string": b"",
            "headers": [
                (name.lower().encode(), value.encode("latin-1"))
                for name, value in ({"Host": "sfu:8045"} | headers).items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8045),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
            "state": {},
        }
        self._serving = asyncio.create_task(app(scope, self._to_server.get, self._send))

    async def _send(self, event: Any) -> None:
        await self.writable.wait()
        if self.broken:
            raise OSError("the peer is gone")
        self._from_server.put_nowait(dict(event))

    async def open(self) -> None:
        """Upgrade: reads the hello, or the refusal."""
        self._to_server.put_nowait({"type": "websocket.connect"})
        first = await self._event()
        if first["type"] == "websocket.accept":
            message = await self.receive()
            assert isinstance(message, Hello)
            self.hello = message
            return
        assert first["type"] == "websocket.http.response.start"
        body = await self._event()
        self.denial = first["status"], body["body"].decode()

    def send(self, message: Message | bytes | str) -> None:
        """A message, or a binary or text frame of anything."""
        if isinstance(message, str):
            event = {"text": message}
        elif isinstance(message, bytes):
            event = {"bytes": message}
        else:
            event = {"bytes": encode(message)}
        self._to_server.put_nowait({"type": "websocket.receive"} | event)

    async def receive(self) -> Message:
        """The next message."""
        event = await self._event()
        assert event["type"] == "websocket.send"
        return decode(event["bytes"])

    async def settle(self) -> list[Message]:
        """All that came back until what was sent is dealt with; a join that cannot be marks the end."""
        end = "fence-fence-fence-fence-fe"
        self.send(Join(call_id="", user_id="", session_id=end))
        messages = []
        while (message := await self.receive()) != Close(end):
            messages.append(message)
        return messages

    @property
    def gone(self) -> bool:
        """The server has let go of the connection by itself."""
        return self._serving.done()

    async def close(self) -> None:
        """Go away; raises what the server's handler raised."""
        self._to_server.put_nowait({"type": "websocket.disconnect", "code": 1006})
        await self.served()

    async def served(self) -> None:
        """Until the server has let go of the connection."""
        self.writable.set()
        async with asyncio.timeout(_TIMEOUT_S):
            await self._serving

    async def _event(self) -> dict[str, Any]:
        if not self._from_server.empty():
            return self._from_server.get_nowait()
        async with asyncio.timeout(_TIMEOUT_S):
            getting = asyncio.create_task(self._from_server.get())
            await asyncio.wait([getting, self._serving], return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                self._serving.result()
                raise AssertionError("the server ended the connection")
            return getting.result()


@dataclass
class Plane:
    """A control plane before a media plane."""

    app: FastAPI
    http: httpx.AsyncClient
    clock: ManualClock
    media: Any
    """RecordedMedia or SfuServer."""
    _sockets: list[PluginSocket] = field(default_factory=list)

    @staticmethod
    def basic(client: str = "plugin", key: str = KEY) -> dict[str, str]:
        """The header of a client."""
        token = base64.b64encode(f"{client}:{key}".encode()).decode()
        return {"Authorization": f"Basic {token}"}

    @staticmethod
    def admin() -> dict[str, str]:
        return Plane.basic("anybody", ADMIN_KEY)

    async def connect(self, client: str = "plugin", **headers: str) -> PluginSocket:
        """A WebSocket of a client that the server takes; `headers` besides the client's."""
        socket = await self.try_connect(self.basic(client) | headers)
        assert socket.denial is None, socket.denial
        return socket

    async def try_connect(self, headers: dict[str, str]) -> PluginSocket:
        """A WebSocket that the server takes or refuses."""
        socket = PluginSocket(self.app, headers)
        await socket.open()
        if socket.denial is None:
            self._sockets.append(socket)
        else:
            await socket.served()
        return socket

    async def disconnect(self, socket: PluginSocket) -> None:
        self._sockets.remove(socket)
        await socket.close()

    async def disconnect_all(self) -> None:
        for socket in list(self._sockets):
            await self.disconnect(socket)


StartPlane = Callable[..., Awaitable[Plane]]


@asynccontextmanager
async def _plane(
    media: MediaServer,
    *,
    floods: dict[str, float] | None = None,
    app_options: dict[str, bool] | None = None,
    **options: Any,
) -> AsyncIterator[Plane]:
    clock, store = ManualClock(), MemoryClientStore()
    for client in CLIENTS:
        await store.put(client, _KEY_HASH)
    settings = {"enable_admin": True, "admin_secret_key": ADMIN_KEY} | options
    sessions = SessionCache(expiration_minutes=10, clock=clock)
    auth = ClientAuth(store=store, sessions=sessions, clock=clock, **settings)
    limits = FloodLimits(clock=clock, **(floods or {}))
    app = create_app(media=media, auth=auth, floods=limits, clock=clock, **(app_options or {}))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sfu:8045") as http:
        plane = Plane(app, http, clock, media)
        yield plane
        await plane.disconnect_all()


@pytest.fixture
async def start_plane() -> AsyncIterator[StartPlane]:
    """Start control planes before recorded media, with options of ClientAuth, FloodLimits and create_app."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Plane:
            return await stack.enter_async_context(_plane(RecordedMedia(), **options))

        yield start


@pytest.fixture
async def plane(start_plane: StartPlane) -> Plane:
    """Clients `plugin` and `other`, an admin, no self-registration, recorded media."""
    return await start_plane()


@pytest.fixture
async def sfu() -> AsyncIterator[Any]:
    """A real media plane, an SfuServer, on a port of loopback."""
    from sfu.server import SfuServer  # most tests here do without it

    server = SfuServer(bind_addresses=["127.0.0.1"], udp_port=0, connect_timeout_s=25)
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def live(sfu: Any) -> AsyncIterator[Plane]:
    """The control plane before a real media plane."""
    async with _plane(sfu) as plane:
        yield plane


@pytest.fixture
def certificate_files(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "self-signed.pem", tmp_path / "self-signed.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths
