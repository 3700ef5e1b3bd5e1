"""What a probe counts, against sockets that answer, lose, refuse and hang up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest

import rtc.stun
from offloader.doctor.network import stun
from offloader.doctor.network.media_probe import probe_tcp, probe_udp

_MAKE = partial(stun.request, stun.BINDING)


class Answering(asyncio.DatagramProtocol):
    """A STUN server that answers all but each `loses`-th request."""

    def __init__(self, loses: int) -> None:
        self._loses = loses
        self._count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._count += 1
        if self._loses and self._count % self._loses == 0:
            return
        self._transport.sendto(rtc.stun.binding_success(data[8:20], mapped=addr, key=None), addr)


@pytest.fixture
async def stun_server() -> AsyncIterator[Callable[[int], Awaitable[int]]]:
    transports: list[asyncio.BaseTransport] = []

    async def start(loses: int) -> int:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Answering(loses), local_addr=("127.0.0.1", 0)
        )
        transports.append(transport)
        port: int = transport.get_extra_info("sockname")[1]
        return port

    yield start
    for transport in transports:
        transport.close()
    await asyncio.sleep(0)  # until the loop has closed their sockets


async def test_every_answer_is_counted_and_timed(
    stun_server: Callable[[int], Awaitable[int]],
) -> None:
    probe = await probe_udp("127.0.0.1", await stun_server(0), _MAKE)
    assert (probe.sent, probe.answered, probe.loss) == (20, 20, 0)
    assert 0 < probe.round_trip_ms < 1000
    assert probe.mapped.startswith("127.0.0.1:")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers does it in the same loop."""
    monkeypatch.setattr("offloader.doctor.network.media_probe._PATIENCE_S", 0.2)


@pytest.mark.usefixtures("impatient")
async def test_what_does_not_come_back_is_lost(
    stun_server: Callable[[int], Awaitable[int]],
) -> None:
    probe = await probe_udp("127.0.0.1", await stun_server(4), _MAKE)
    assert (probe.sent, probe.answered) == (20, 15)
    assert probe.loss == pytest.approx(0.25)


async def test_a_port_that_nobody_has_is_refused(closed_port: int) -> None:
    udp = await probe_udp("127.0.0.1", closed_port, _MAKE)
    assert (udp.refused, udp.answered) == (True, 0)
    tcp = await probe_tcp("127.0.0.1", closed_port, _MAKE)
    assert (tcp.refused, tcp.connected) == (True, False)


async def test_answers_over_tcp_come_in_frames(listening: Callable[..., Awaitable[int]]) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(size)
            answer = rtc.stun.binding_success(data[8:20], mapped=("192.0.2.1", 7), key=None)
            writer.write(b"\x00\x03abc" + stun.framed(answer))  # something else before it
            await writer.drain()

    probe = await probe_tcp("127.0.0.1", await listening(handle), _MAKE, requests=3)
    assert (probe.connected, probe.answered, probe.mapped) == (True, 3, "192.0.2.1:7")


async def test_who_hangs_up_is_told_from_who_is_silent(
    listening: Callable[..., Awaitable[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert (await probe_tcp("127.0.0.1", await listening(hang_up), _MAKE)).hung_up
    monkeypatch.setattr("offloader.doctor.network.media_probe._PATIENCE_S", 0.05)
    probe = await probe_tcp("127.0.0.1", await listening(say_nothing), _MAKE)
    assert (probe.hung_up, probe.connected) == (False, True)
    assert "nothing answers" in probe.reason


@pytest.mark.usefixtures("impatient")
async def test_forged_answers_do_not_count() -> None:
    class Forging(Answering):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            other = stun.new_transaction_id()
            self._transport.sendto(rtc.stun.binding_success(other, mapped=addr, key=None), addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Forging(0), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    probe = await probe_udp("127.0.0.1", port, _MAKE, requests=2)
    assert probe.answered == 0
    transport.close()
    await asyncio.sleep(0)
