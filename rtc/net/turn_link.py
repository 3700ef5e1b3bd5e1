"""The connection to a TURN server: UDP, TCP or TLS (RFC 8656 section 3.1). No task, no queue of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from rtc.ice.path import Address
from rtc.net.udp_socket import UdpSocket, bind_udp
from rtc.turn.messages import StreamReader, TurnMessageError
from rtc.turn.servers import ServerUrl

_BACKLOG_BYTES = 256 * 1024
"""As for TCP flows of our own (`rtc.net.tcp_flow`): beyond that, packets are dropped."""


class TurnLink(Protocol):
    """Messages to one server. Raises nothing."""

    def send(self, message: bytes) -> None: ...

    def close(self) -> None: ...


class _UdpLink:
    def __init__(self, server: Address, on_message: Callable[[bytes], None]) -> None:
        self._server = server
        self._on_message = on_message
        self._socket = UdpSocket(bind_udp("::" if ":" in server[0] else "0.0.0.0", 0), self._came)  # nosec B104  # the TURN server alone is heard

    def send(self, message: bytes) -> None:
        self._socket.send(message, self._server)

    def close(self) -> None:
        self._socket.close()

    def _came(self, data: bytes, source: Address) -> None:
        if source == self._server and data:
            self._on_message(data)


class _StreamLink(asyncio.Protocol):
    def __init__(
        self, on_message: Callable[[bytes], None], on_closed: Callable[[str], None]
    ) -> None:
        self._on_message = on_message
        self._on_closed: Callable[[str], None] | None = on_closed
        self._reader = StreamReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.push(data)
        except TurnMessageError as error:
            self._end(f"what it sends is no TURN: {error}")
            return
        for message in messages:
            if self._on_closed is None:
                return
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the server closed the connection" if exc is None else type(exc).__name__)

    def send(self, message: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() + len(message) <= _BACKLOG_BYTES:
            transport.write(message)

    def close(self) -> None:
        self._on_closed = None
        if self._transport is not None:
            self._transport.close()

    def _end(self, reason: str) -> None:
        told, self._on_closed = self._on_closed, None
        if self._transport is not None:
            self._transport.close()
        if told is not None:
            told(reason)


async def connect_link(
    url: ServerUrl,
    *,
    tls: ssl.SSLContext | None,
    on_message: Callable[[bytes], None],
    on_closed: Callable[[str], None],
) -> TurnLink:
    """Resolve and connect; `tls` is needed for TLS. `on_closed(reason)` at most once, not after `close`.

    Raises:
        OSError: the name has no address, nobody answers, or the certificate is not to be trusted.
    """
    loop = asyncio.get_running_loop()
    if url.link == "udp":
        return _UdpLink(await resolve_udp(url), on_message)
    _, link = await loop.create_connection(
        lambda: _StreamLink(on_message, on_closed),
        url.host,
        url.port,
        ssl=tls if url.link == "tls" else None,
        server_hostname=url.host if url.link == "tls" else None,
    )
    return link


async def resolve_udp(url: ServerUrl) -> Address:
    """The first address of the server. Raises OSError when its name has none."""
    found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_DGRAM)
    host, port = found[0][4][:2]
    return str(host), int(port)
