"""The stand-in's client of one SFU: rtcd's HTTP API and one WebSocket connection (rtcd.md 2, 4)."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from foundation.channel import Channel
from foundation.groups import until_one_ends
from foundation.logs import get_logger
from sfu import messages
from sfu.messages import Hello, Message, MessageError

_CAPACITY: Final = 2000
_DIAL_TIMEOUT_S: Final = 4.0
_HTTP_TIMEOUT_S: Final = 10.0
_MIN_VERSION: Final = (0, 17, 0)
"""What the plugin asks for (rtcd.md 4.4)."""


class RtcdError(Exception):
    """An SFU cannot be used; the message says which one and which step failed."""


@dataclass(frozen=True, slots=True)
class RtcdUrl:
    """Where SFUs are: one name for all of them, with the port of their API."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> RtcdUrl:
        """Raises RtcdError unless it is `http(s)://host:port`; the plugin insists on the port."""
        parts = urlsplit(text)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
            shown = re.sub("//.*@", "//…@", text)  # never its key
            raise RtcdError(f"the URL of the SFU is {shown!r}: should be http(s)://host:port")
        return cls(parts.scheme, parts.hostname, port)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the plugin registers with (rtcd.md 4.3)."""

    client_id: str
    auth_key: str = field(repr=False)
    """32 characters or more."""

    @classmethod
    def of_url(cls, text: str) -> Credentials:
        """Those in a URL; what it lacks is made up anew, as a server that has never met the SFU would."""
        parts = urlsplit(text)
        client_id = unquote(parts.username or "") or f"standin-{secrets.token_hex(4)}"
        return cls(client_id, unquote(parts.password or "") or secrets.token_urlsafe(24))

    def basic(self) -> str:
        """The Authorization header."""
        pair = f"{self.client_id}:{self.auth_key}".encode()
        return "Basic " + base64.b64encode(pair).decode()


class RtcdClient:
    """Good for one connection: `connect`, then `run` until it is lost. `send` from anywhere meanwhile."""

    def __init__(
        self,
        url: RtcdUrl,
        address: str,
        credentials: Credentials,
        *,
        on_message: Callable[[Message], Awaitable[None]],
    ) -> None:
        """The connection goes to `address`; HTTP and TLS see the host name of `url`."""
        self.version: dict[str, str] = {}
        """What `/version` told."""
        self._url = url
        self._address = address
        self._credentials = credentials
        self._on_message = on_message
        self._outgoing: Channel[bytes] = Channel(_CAPACITY)
        self._socket: ClientConnection | None = None
        self._log = get_logger(component="rtcd-client", address=address)

    async def connect(self) -> None:
        """Check the version, connect; register where that is refused, and connect again. Raises RtcdError."""
        await self._check_version()
        try:
            self._socket = await self._open()
        except (OSError, websockets.WebSocketException, TimeoutError):
            await self._register()
            try:
                self._socket = await self._open()
            except (OSError, websockets.WebSocketException, TimeoutError) as error:
                raise self._failure(f"refuses the connection ({type(error).__name__})") from error

    async def run(self) -> None:
        """Read and write until the connection is lost, or until cancelled; closes it."""
        socket = self._socket
        assert socket is not None, "connect comes first"
        try:
            await until_one_ends(read=self._read(socket), write=self._write(socket))
        except websockets.WebSocketException as error:
            self._log.warning("rtcd.connection_lost", reason=type(error).__name__)
        finally:
            await socket.close()

    async def close(self) -> None:
        """For one that will not `run`."""
        if self._socket is not None:
            await self._socket.close()

    def send(self, message: Message) -> None:
        """Queue a message; a full queue drops it with a log line, as the plugin's does."""
        if not self._outgoing.offer(messages.encode(message)):
            self._log.error("rtcd.message_dropped")

    async def cpu_load(self) -> float:
        """What `/system` tells. Raises RtcdError; an SFU that is fully busy may answer nothing."""
        try:
            return float((await self._request("GET", "/system")).json()["cpu_load"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._failure("tells no load") from error

    async def _check_version(self) -> None:
        response = await self._request("GET", "/version")
        try:
            self.version = {k: str(v) for k, v in response.json().items()}
        except (ValueError, AttributeError) as error:
            raise self._failure("tells no version") from error
        build = self.version.get("buildVersion", "")
        found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", build)
        is_unchecked = build in ("", "master") or build.startswith("dev")
        if not is_unchecked and (not found or tuple(map(int, found.groups())) < _MIN_VERSION):
            raise self._failure(f"has version {build!r}: should be v0.17.0 or newer")

    async def _register(self) -> None:
        body = {"clientID": self._credentials.client_id, "authKey": self._credentials.auth_key}
        response = await self._request("POST", "/register", json=body)
        if response.status_code != 201:
            raise self._failure(f"refused the registration with HTTP {response.status_code}")

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        base = f"{self._url.scheme}://{self._address}:{self._url.port}"
        headers = {"Host": f"{self._url.host}:{self._url.port}"}
        headers["Authorization"] = self._credentials.basic()
        timeout = httpx.Timeout(_HTTP_TIMEOUT_S, connect=_DIAL_TIMEOUT_S)
        try:
            async with httpx.AsyncClient(timeout=timeout, trust_env=False) as http:
                return await http.request(
                    method,
                    base + path,
                    headers=headers,
                    extensions={"sni_hostname": self._url.host},
                    **options,
                )
        except httpx.HTTPError as error:
            raise self._failure(f"does not answer ({type(error).__name__})") from error

    async def _open(self) -> ClientConnection:
        return await websockets.connect(
            f"{self._url}/ws".replace("http", "ws", 1),
            host=self._address,
            port=self._url.port,
            additional_headers={"Authorization": self._credentials.basic()},
            max_size=1 << 20,
            open_timeout=_DIAL_TIMEOUT_S,
            ping_interval=None,  # the server pings (rtcd.md 2.1)
            proxy=None,
        )

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
            if not isinstance(message, Hello):
                await self._on_message(message)

    def _failure(self, text: str) -> RtcdError:
        return RtcdError(f"the SFU {self._url} at {self._address} {text}")
