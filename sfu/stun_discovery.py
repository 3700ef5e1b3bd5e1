"""Which address the outside sees: one STUN binding request from the media port (RFC 8489, rtcd.md 3.11)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

from rtc.stun import (
    BINDING_SUCCESS,
    StunError,
    new_transaction_id,
    parse_message,
    server_request,
)

TIMEOUT_S: Final = 5.0
_FIRST_WAIT_S: Final = 0.5


class DiscoveryError(Exception):
    """No usable answer; the message says what happened."""


async def discover(local_address: str, local_port: int, server: tuple[str, int]) -> str:
    """The address under which `server` (IP address, port) sees `local_address:local_port`.

    To be called before the media socket is bound, whose port it uses for a moment.

    Raises:
        DiscoveryError: the port cannot be used, or no good answer came within `TIMEOUT_S`.
    """
    sock = socket.socket(
        socket.AF_INET6 if ":" in local_address else socket.AF_INET, socket.SOCK_DGRAM
    )
    try:
        sock.setblocking(False)
        # Another process that has the port is found when the media socket is bound, not here.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((local_address, local_port))
    except OSError as error:
        sock.close()
        raise DiscoveryError(
            f"{local_address}:{local_port} cannot be used: {error.strerror}"
        ) from error
    answers = _Answers(new_transaction_id())
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: answers, sock=sock
    )
    try:
        return await _ask(transport, answers, server)
    finally:
        transport.close()
        await answers.closed  # only now the port is free for the media socket


async def _ask(
    transport: asyncio.DatagramTransport, answers: _Answers, server: tuple[str, int]
) -> str:
    request = server_request(answers.transaction_id)
    wait_s = _FIRST_WAIT_S
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while True:  # UDP loses: ask again after twice the time, as RFC 8489 section 6.2.1
                transport.sendto(request, server)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        return await asyncio.shield(answers.address)
                wait_s *= 2
    except TimeoutError:
        raise DiscoveryError(
            f"STUN server {server[0]}:{server[1]} did not answer within {TIMEOUT_S:g} s"
        ) from None
    except OSError as error:
        raise DiscoveryError(
            f"STUN server {server[0]}:{server[1]} cannot be reached: {error.strerror}"
        ) from error


class _Answers(asyncio.DatagramProtocol):
    """Waits for the answer to one request."""

    def __init__(self, transaction_id: bytes) -> None:
        self.transaction_id = transaction_id
        loop = asyncio.get_running_loop()
        self.address: asyncio.Future[str] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        try:
            message = parse_message(data)
        except StunError:
            return
        ours = message.kind == BINDING_SUCCESS and message.transaction_id == self.transaction_id
        if ours and message.mapped is not None and not self.address.done():
            self.address.set_result(message.mapped[0])

    def error_received(self, exc: Exception) -> None:
        # The system has no way there, and will have none in a second.
        if not self.address.done():
            self.address.set_exception(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)
