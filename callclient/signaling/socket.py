"""Opens the Mattermost WebSocket: bearer token, private CA, proxy (calls-plugin.md 1.1).

Whatever fails is told in plain words.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidProxy, InvalidProxyStatus, InvalidStatus, ProxyError

from callclient.signaling.proxies import proxy_for
from callclient.site_guard import SiteRefused, check_peer, check_site

_MAX_EVENT_BYTES: Final = 8 << 20
"""An offer with a thousand sections of people who left is near 1 MiB as JSON within JSON."""
_CLOSE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and as whom."""

    site_url: str
    """`http(s)://host[:port]`, no trailing slash."""
    auth_token: str = field(repr=False)
    ca_file: Path | None = None
    """Extra CA bundle for wss."""
    site_is_allowed: bool = False
    """The admin has named it, so that it may have any address."""

    @property
    def url(self) -> str:
        return self.site_url.replace("http", "ws", 1) + "/api/v4/websocket"


class SocketLost(Exception):
    """The WebSocket could not be opened, or is gone; one plain sentence without secrets."""


class Socket(Protocol):
    """An open WebSocket. Every method but `abort` raises SocketLost."""

    async def send(self, frame: str | bytes) -> None: ...

    async def receive(self) -> str | bytes: ...

    async def close(self) -> None:
        """Say goodbye and wait for the answer, for a limited time."""

    def abort(self) -> None:
        """Drop it at once: nobody answers any more."""


OpenSocket = Callable[[Endpoint, float], Awaitable[Socket]]
"""`(endpoint, timeout_s)`; raises SocketLost."""


class WebSocketOpener:
    """An OpenSocket. The CA file is read once, so that a reconnect needs no disk."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    async def __call__(self, endpoint: Endpoint, timeout_s: float) -> Socket:
        """No Origin goes out: the server checks it against its own address, where there is one."""
        try:
            if not endpoint.site_is_allowed:
                await check_site(endpoint.site_url)
            connecting = _Connecting if endpoint.site_is_allowed else _ConnectingWhereItMay
            return _WebSocket(
                await connecting(
                    endpoint.url,
                    additional_headers={"Authorization": f"Bearer {endpoint.auth_token}"},
                    proxy=proxy_for(endpoint.site_url),
                    ssl=self._tls(endpoint) if endpoint.url.startswith("wss") else None,
                    max_size=_MAX_EVENT_BYTES,
                    open_timeout=timeout_s,
                    close_timeout=_CLOSE_TIMEOUT_S,
                    ping_interval=None,  # our own pings tell the server's time as well
                )
            )
        except SiteRefused as error:
            raise SocketLost(str(error)) from error
        except (OSError, ValueError, websockets.WebSocketException) as error:
            raise SocketLost(_plain(error, endpoint, timeout_s)) from error

    def _tls(self, endpoint: Endpoint) -> ssl.SSLContext:
        if self._context is None:
            context = ssl.create_default_context()
            if endpoint.ca_file is not None:
                try:
                    context.load_verify_locations(cafile=endpoint.ca_file)
                except OSError as error:
                    reason = error.strerror or "it holds no certificate"
                    raise ValueError(f"{endpoint.ca_file}: {reason}") from error
            self._context = context
        return self._context


class _Connecting(websockets.connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """None is followed: it would lead past what was looked at before the connection."""
        return exc


class _ConnectingWhereItMay(_Connecting):
    async def open_tcp_connection(self) -> ClientConnection:
        """With TLS, if that is wished for, and before the token is sent. Raises SiteRefused."""
        connection = await super().open_tcp_connection()
        try:
            site_url = self.uri.replace("ws", "http", 1)
            check_peer(site_url, connection.transport.get_extra_info("peername"))
        except SiteRefused:
            connection.transport.abort()
            raise
        return connection


class _WebSocket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, frame: str | bytes) -> None:
        try:
            await self._connection.send(frame)
        except (OSError, websockets.ConnectionClosed) as error:
            raise SocketLost(_closed(error)) from error

    async def receive(self) -> str | bytes:
        try:
            return await self._connection.recv()
        except (OSError, websockets.ConnectionClosed) as error:
            raise SocketLost(_closed(error)) from error

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        transport: asyncio.Transport = self._connection.transport
        transport.abort()


def _closed(error: Exception) -> str:
    if isinstance(error, websockets.ConnectionClosed):
        code = error.rcvd.code if error.rcvd is not None else 1006
        return f"the server closed it (code {code})"
    return f"the connection broke ({type(error).__name__})"


def _plain(error: Exception, endpoint: Endpoint, timeout_s: float) -> str:
    """Never the error's own text where that could hold the proxy's password."""
    match error:
        case InvalidProxy():
            return "HTTP_PROXY or HTTPS_PROXY is not usable: should be http://[user:password@]host:port"
        case InvalidProxyStatus():
            return f"the proxy answered with HTTP {error.response.status_code}"
        case ProxyError():
            return "the proxy did not answer as one"
        case InvalidStatus():
            return f"the server answered with HTTP {error.response.status_code}"
        case ssl.SSLCertVerificationError():
            return (
                f"the server's certificate is not trusted ({error.verify_message}): "
                "TLS_CA_CERT_FILE can name a private CA"
            )
        case ssl.SSLError():
            return f"TLS failed ({error.reason or 'no reason'})"
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case socket.gaierror():
            return f"the name of {endpoint.site_url} does not resolve"
        case OSError():
            return error.strerror or type(error).__name__
        case ValueError():
            return str(error)
    return type(error).__name__
