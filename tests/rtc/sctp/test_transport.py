"""SctpTransport on the event loop, over a wire that looks like DTLS."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from struct import pack
from typing import Any, cast

import pytest

from rtc.dtls import DtlsTransport
from rtc.sctp import MAX_MESSAGE_BYTES, SCTP_PORT, DataChannel, SctpTransport
from rtc.sctp.chunks import ChunkType, chunk
from rtc.sctp.packet import build_packet


class Wire:
    """What SctpTransport uses of a DtlsTransport."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.receive: Callable[[bytes], None] = lambda packet: None
        self.sent = 0
        self.closed = False

    def send_application_data(self, data: bytes) -> None:
        self.sent += 1
        if not self.closed:
            asyncio.get_running_loop().call_soon(self.receive, data)


@dataclass
class Side:
    wire: Wire
    channels: asyncio.Queue[DataChannel] = field(default_factory=asyncio.Queue)
    messages: asyncio.Queue[bytes | str] = field(default_factory=asyncio.Queue)
    failures: list[str] = field(default_factory=list)
    answer: bytes | None = None
    closes: bool = False

    def __post_init__(self) -> None:
        self.sctp = SctpTransport(
            cast(DtlsTransport, self.wire),
            on_open=self.channels.put_nowait,
            on_message=self._message,
            on_failed=self.failures.append,
        )

    def _message(self, channel: DataChannel, message: bytes | str) -> None:
        self.messages.put_nowait(message)
        if self.answer is not None:
            channel.send(self.answer)
        if self.closes:
            with contextlib.suppress(StopIteration):
                self.sctp.close().send(None)  # it never waits

    @property
    def association(self) -> Any:
        return self.sctp._association


def connected() -> tuple[Side, Side]:
    client, server = Side(Wire("client")), Side(Wire("server"))
    client.wire.receive, server.wire.receive = server.sctp.receive, client.sctp.receive
    for side in (client, server):
        side.sctp.start(remote_port=SCTP_PORT)
    client.sctp.create_channel("calls-dc")
    return client, server


@asynccontextmanager
async def two_sides() -> AsyncIterator[tuple[Side, Side]]:
    client, server = connected()
    try:
        async with asyncio.timeout(25):
            yield client, server
    finally:
        await client.sctp.close()
        await server.sctp.close()


async def both_open(client: Side, server: Side) -> tuple[DataChannel, DataChannel]:
    return await client.channels.get(), await server.channels.get()


async def until(holds: Callable[[], object]) -> None:
    """`two_sides` limits the time."""
    while not holds():
        await asyncio.sleep(0.001)


async def test_bytes_and_text_of_any_length_arrive_in_order_both_ways() -> None:
    async with two_sides() as (client, server):
        near, far = await both_open(client, server)
        assert far.label == "calls-dc"
        sent = [b"", b"\x01", "text", "", bytes(70_000), bytes(MAX_MESSAGE_BYTES), b"end"]
        for message in sent:
            assert near.send(message)
            assert far.send(message)
        assert [await server.messages.get() for _ in sent] == sent
        assert [await client.messages.get() for _ in sent] == sent


async def test_an_answer_given_at_once_takes_the_acknowledgement_along() -> None:
    async with two_sides() as (client, server):
        near, _ = await both_open(client, server)
        await until(lambda: client.sctp._timer is None and server.sctp._timer is None)
        server.answer = b"\xcc\x02"
        before = client.wire.sent, server.wire.sent
        assert near.send(b"\xcc\x01")
        assert await client.messages.get() == b"\xcc\x02"
        assert (client.wire.sent, server.wire.sent) == (before[0] + 1, before[1] + 1)


async def test_a_client_that_acknowledges_nothing_costs_a_bounded_amount() -> None:
    async with two_sides() as (client, server):
        _, far = await both_open(client, server)
        client.wire.closed = True
        sent = 0
        while far.send(bytes(10_000)):
            sent += 1
        assert 50 < sent < 110
        assert far.open


async def test_close_is_told_to_the_other_side_and_no_callback_comes_after_it() -> None:
    async with two_sides() as (client, server):
        near, far = await both_open(client, server)
        assert far.send(b"on its way")
        await client.sctp.close()
        await client.sctp.close()
        await until(lambda: not far.open)
        assert not near.open
        assert not near.send(b"late")
        assert client.messages.empty()
        assert client.failures == server.failures == []


async def test_close_in_a_callback_is_the_end() -> None:
    async with two_sides() as (client, server):
        near, far = await both_open(client, server)
        server.closes = True
        assert near.send(b"one")
        assert near.send(b"two")
        await until(lambda: not near.open)
        assert server.messages.qsize() == 1
        assert not far.open


async def test_before_the_start_and_after_the_end_packets_are_nothing() -> None:
    side = Side(Wire("server"))
    side.sctp.receive(build_packet(SCTP_PORT, SCTP_PORT, 0, chunk(1, bytes(16))))
    await side.sctp.close()
    side.sctp.receive(bytes(40))
    assert side.wire.sent == 0


async def test_no_task_is_made() -> None:
    async with two_sides() as (client, server):
        await both_open(client, server)
        assert len(asyncio.all_tasks()) == 1


async def test_an_association_with_nothing_outstanding_has_no_timer() -> None:
    async with two_sides() as (client, server):
        near, _ = await both_open(client, server)
        server.answer = b"pong"
        near.send(b"ping")
        assert client.sctp._timer is not None
        await client.messages.get()
        assert server.sctp._timer is not None  # for the acknowledgement of the answer
        async with asyncio.timeout(25):
            while not server.association._sender.idle:
                await asyncio.sleep(0.01)
        assert client.sctp._timer is None
        assert server.sctp._timer is None


async def test_who_breaks_the_protocol_is_reported_once_and_told() -> None:
    async with two_sides() as (client, server):
        near, far = await both_open(client, server)
        tag = server.association._handshake.tag
        for _ in range(3):
            server.sctp.receive(
                build_packet(SCTP_PORT, SCTP_PORT, tag, chunk(ChunkType.DATA, bytes(12), 3))
            )
        await until(lambda: not near.open)
        assert server.failures == ["SCTP: a DATA chunk without data"]
        assert not far.open


async def test_junk_is_counted_and_logged_never(capsys: pytest.CaptureFixture[str]) -> None:
    async with two_sides() as (client, server):
        near, _ = await both_open(client, server)
        capsys.readouterr()
        for number in range(10_000):
            server.sctp.receive(pack("!I", number) * 5)
        assert server.association.refused_packets == 10_000
        assert near.send(b"on")
        assert await server.messages.get() == b"on"
        captured = capsys.readouterr()
        assert captured.out + captured.err == ""


async def test_closing_a_thousand_takes_no_time() -> None:
    async with two_sides() as (client, server):
        await both_open(client, server)
        began = time.process_time()
        for _ in range(1000):
            await client.sctp.close()
        assert time.process_time() - began < 1
