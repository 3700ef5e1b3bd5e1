"""A TURN server of a few lines, without I/O, to test the client against."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from rtc.turn import messages
from rtc.turn.client import TurnClient, TurnEvent
from rtc.turn.messages import Attribute, Kind, Method, TurnMessage

S = 1_000_000_000
RELAYED = ("198.51.100.7", 50_000)
MAPPED = ("203.0.113.9", 40_000)
REALM = "example.org"


class TurnServer:
    """Answers as its attributes say; keeps what came."""

    def __init__(self) -> None:
        self.password = "secret"
        self.nonce = b"nonce-1"
        self.open_to_all = False
        self.lifetime_s = 600
        self.refuses: dict[Method, int] = {}
        """Error codes by method."""
        self.forbidden: set[tuple[str, int]] = set()
        self.silent = False
        self.requests: list[TurnMessage] = []
        self.channel_data: list[tuple[int, bytes]] = []
        self.raw: list[bytes] = []

    def answer(self, message: bytes) -> bytes | None:
        """To one message of the client."""
        self.raw.append(message)
        if message[0] >= 0x40:
            data = messages.parse_channel_data(message)
            assert data is not None
            self.channel_data.append(data)
            return None
        request = messages.parse(message)
        self.requests.append(request)
        if self.silent:
            return None
        method = Method(request.method)
        key = messages.long_term_key("user", REALM, self.password)
        if not self.open_to_all:
            if Attribute.USERNAME not in request.attributes or not request.integrity_holds(key):
                return self._error(request, 401)
            if request.attributes[Attribute.NONCE] != self.nonce:
                return self._error(request, 438)
        if method in self.refuses:
            return self._error(request, self.refuses[method])
        if request.address(Attribute.XOR_PEER_ADDRESS) in self.forbidden:
            return self._error(request, 403)
        attributes = b""
        if method in (Method.ALLOCATE, Method.REFRESH):
            attributes += messages.encode(Attribute.LIFETIME, self.lifetime_s.to_bytes(4, "big"))
        if method is Method.ALLOCATE:
            for attribute, address in (
                (Attribute.XOR_RELAYED_ADDRESS, RELAYED),
                (Attribute.XOR_MAPPED_ADDRESS, MAPPED),
            ):
                attributes += messages.encode_address(attribute, address, request.transaction_id)
        return messages.build(
            method,
            Kind.SUCCESS,
            request.transaction_id,
            attributes,
            key=None if self.open_to_all else key,
        )

    def methods(self) -> list[Method]:
        return [Method(request.method) for request in self.requests]

    def _error(self, request: TurnMessage, code: int) -> bytes:
        value = bytes([0, 0, code // 100, code % 100]) + b"because"
        attributes = (
            messages.encode(Attribute.ERROR_CODE, value)
            + messages.encode(Attribute.REALM, REALM.encode())
            + messages.encode(Attribute.NONCE, self.nonce)
        )
        return messages.build(
            Method(request.method), Kind.ERROR, request.transaction_id, attributes
        )


class Exchange:
    """A client and its server, and a clock that only `advance` moves."""

    def __init__(self, *, reliable: bool) -> None:
        self.server = TurnServer()
        self.client = TurnClient(username="user", password="secret", reliable=reliable)
        self.now_ns = 1_000 * S
        self.events: list[TurnEvent] = []

    def start(self) -> None:
        self.client.start(self.now_ns)
        self.settle()

    def send(self, data: bytes, peer: tuple[str, int]) -> None:
        self.client.send(data, peer, self.now_ns)

    def settle(self) -> None:
        """Let messages go to and fro until nobody has anything to say."""
        while outgoing := self.client.take_outgoing():
            for message in outgoing:
                answer = self.server.answer(message)
                if answer is not None:
                    assert self.client.receive(answer, self.now_ns) is None
        self.events += self.client.take_events()

    def advance(self, seconds: float) -> None:
        """Tick whenever the client wants it."""
        end_ns = self.now_ns + round(seconds * S)
        while self.client.due_ns <= end_ns:
            self.now_ns = max(self.now_ns, self.client.due_ns)
            self.client.tick(self.now_ns)
            self.settle()
        self.now_ns = end_ns


@pytest.fixture
def exchange() -> Exchange:
    """Over UDP."""
    return Exchange(reliable=False)


@pytest.fixture
def make_exchange() -> Callable[..., Exchange]:
    return Exchange


@dataclass
class Listening:
    """A TurnServer on loopback sockets, UDP and TCP on one port."""

    core: TurnServer
    port: int
    clients: set[asyncio.Transport] = field(default_factory=set)
    """TCP connections that are open."""


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, core: TurnServer) -> None:
        self._core = core

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._core.answer(data)
        if answer is not None:
            self._transport.sendto(answer, addr)


class _Stream(asyncio.Protocol):
    def __init__(self, listening: Listening) -> None:
        self._listening = listening
        self._reader = messages.StreamReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._listening.clients.add(transport)

    def data_received(self, data: bytes) -> None:
        for message in self._reader.push(data):
            answer = self._listening.core.answer(message)
            if answer is not None:
                self._transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listening.clients.discard(self._transport)


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    """A server on real sockets."""
    loop = asyncio.get_running_loop()
    result = Listening(TurnServer(), 0)
    server = await loop.create_server(lambda: _Stream(result), "127.0.0.1", 0)
    result.port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Datagrams(result.core), local_addr=("127.0.0.1", result.port)
    )
    with contextlib.closing(transport):
        yield result
    server.close()
    for client in list(result.clients):
        client.abort()
    await server.wait_closed()
