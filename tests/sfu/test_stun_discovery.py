"""One STUN question from the media port (RFC 8489)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from rtc.stun import binding_success, parse_message
from sfu.stun_discovery import DiscoveryError, discover


def success(request: bytes, address: str = "8.8.8.8") -> bytes:
    return binding_success(parse_message(request).transaction_id, mapped=(address, 1), key=None)


@contextlib.asynccontextmanager
async def server(answer: Callable[[bytes, int], bytes | None]) -> AsyncIterator[tuple[str, int]]:
    """Answers datagrams; `answer(datagram, how many there were)`."""

    class Server(asyncio.DatagramProtocol):
        count = 0

        def connection_made(self, transport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr) -> None:
            self.count += 1
            reply = answer(data, self.count)
            if reply is not None:
                self.transport.sendto(reply, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")
    finally:
        transport.close()


@pytest.fixture
def port() -> int:
    """A UDP port that is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_the_question_comes_from_the_media_port_which_is_free_afterwards(port: int) -> None:
    def answer(data: bytes, _: int) -> bytes:
        return success(data)

    async with server(answer) as address:
        assert await discover("127.0.0.1", port, address) == "8.8.8.8"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
            media.bind(("127.0.0.1", port))


def test_the_port_is_free_afterwards_on_the_loop_of_the_process_too(port: int) -> None:
    async def main() -> None:
        await test_the_question_comes_from_the_media_port_which_is_free_afterwards(port)

    uvloop.run(main())


async def test_a_lost_question_is_asked_again(port: int, monkeypatch) -> None:
    monkeypatch.setattr("sfu.stun_discovery._FIRST_WAIT_S", 0.01)

    def answer(data: bytes, count: int) -> bytes | None:
        return success(data) if count == 3 else None

    async with server(answer) as address:
        assert await discover("127.0.0.1", port, address) == "8.8.8.8"


@pytest.mark.documents("a-stun-server-that-does-not-answer")
async def test_a_server_that_is_silent_or_talks_nonsense_is_given_up(
    port: int, monkeypatch, documented
) -> None:
    monkeypatch.setattr("sfu.stun_discovery.TIMEOUT_S", 0.05)
    monkeypatch.setattr("sfu.stun_discovery._FIRST_WAIT_S", 0.01)
    stranger = binding_success(bytes(12), mapped=("9.9.9.9", 1), key=None)
    for reply in (None, b"nonsense", stranger):
        async with server(lambda _, __, reply=reply: reply) as address:
            with pytest.raises(DiscoveryError) as given_up:
                await discover("127.0.0.1", port, address)
            documented("a-stun-server-that-does-not-answer", str(given_up.value))


@pytest.mark.documents("a-stun-server-that-does-not-answer/2")
async def test_a_server_without_a_way_to_it_is_named(port: int, documented) -> None:
    everybody = ("255.255.255.255", 3478)  # which no socket may send to unasked
    with pytest.raises(DiscoveryError) as unreachable:
        await discover("127.0.0.1", port, everybody)
    documented("a-stun-server-that-does-not-answer/2", str(unreachable.value))


@pytest.mark.documents("a-stun-server-that-does-not-answer/3")
async def test_a_port_that_is_taken_is_named(port: int, documented) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        with pytest.raises(DiscoveryError, match=f"127.0.0.1:{port} cannot be used") as taken:
            await discover("127.0.0.1", port, ("127.0.0.1", 9))
    documented("a-stun-server-that-does-not-answer/3", str(taken.value))
