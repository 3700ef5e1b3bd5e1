"""The HTTP server: uvicorn with rtcd's time-outs, TLS and keep-alive (rtcd.md 1.4, 2.1)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_CONNECTIONS: Final = 4096
MAX_HEAD_BYTES: Final = 1 << 20
"""Of a request; as Go's server has it."""
_SHUTDOWN_S: Final = 10


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds."""

    read_s: float = 30.0
    """From the connection, or the first byte of a later request, to the end of its body."""
    write_s: float = 60.0
    """From the end of a request's head to the end of its answer."""
    idle_s: float = 30.0
    """Between two requests."""
    ping_interval_s: float = 10.0
    pong_timeout_s: float = 20.0
    """After a ping; nothing but pongs counts."""


MAX_MESSAGE_BYTES: Final = 1 << 20


class HttpServer(uvicorn.Server):
    """`serve(sockets)` until `should_exit`. Signals are the process's, which has sessions to end first."""

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        tls: ssl.SSLContext | None = None,
        timing: Timing | None = None,
    ) -> None:
        chosen = timing or Timing()

        class Protocol(TimedProtocol):
            times = chosen

        config = uvicorn.Config(
            app,
            http=Protocol,
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=chosen.ping_interval_s,
            ws_ping_timeout=chosen.pong_timeout_s,
            timeout_keep_alive=chosen.idle_s,  # type: ignore[arg-type]  # declared int, used as seconds
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        config.load()
        config.ssl = tls
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class TimedProtocol(HttpToolsProtocol):
    """One connection until it is upgraded; whoever takes too long loses it."""

    times = Timing()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_request = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's narrows it too
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.close()
            return
        self._reading = self.loop.call_later(self.times.read_s, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._reading is None and not self._in_request:
            self._reading = self.loop.call_later(self.times.read_s, self._late)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_request:
            self._head_bytes = 0
        elif self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._in_request = True
        if self._writing is None:
            self._writing = self.loop.call_later(self.times.write_s, self._late)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._in_request = False
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        self._disarm()
        super().handle_websocket_upgrade()

    def _disarm(self) -> None:
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()
        self._reading = self._writing = None

    def _late(self) -> None:
        self.transport.abort()


def tls_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, curve P-256 only, as rtcd. Raises OSError: the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ecdh_curve("prime256v1")
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert_file, key_file)
    return context


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; an empty host means every address, IPv4 and IPv6. Raises OSError."""
    if not host:
        if socket.has_dualstack_ipv6():
            address: tuple[Any, ...] = ("::", port)
            return _listening(socket.AF_INET6, address, dual=True)
        return _listening(socket.AF_INET, ("0.0.0.0", port))  # nosec B104  # as configured: ":8045"
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, target = found[0]
    return _listening(family, target)


def _listening(family: int, target: tuple[Any, ...], *, dual: bool = False) -> socket.socket:
    # Named as TCP: asyncio's own loop holds small answers back for 40 ms where it cannot tell.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        listener.bind(target)
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
