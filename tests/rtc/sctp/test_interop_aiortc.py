"""Against aiortc's association, over a real DTLS connection, in both DTLS roles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport

from rtc.certificates import Certificate
from rtc.dtls import DtlsRole, DtlsTransport, RemoteFingerprint
from rtc.sctp import DataChannel, SctpTransport

SIZES = [0, 1, 1000, 1200, 5000, 65_536, 262_144]


@dataclass
class Ours:
    channels: asyncio.Queue[DataChannel] = field(default_factory=asyncio.Queue)
    messages: asyncio.Queue[bytes | str] = field(default_factory=asyncio.Queue)
    failures: list[str] = field(default_factory=list)


class AiortcDtls:
    """What RTCSctpTransport uses of an RTCDtlsTransport. Its packets are handled one after another."""

    state = "connected"

    def __init__(self, dtls: DtlsTransport) -> None:
        self._dtls = dtls
        self._role = dtls.role
        self.packets: asyncio.Queue[bytes] = asyncio.Queue()

    def _register_data_receiver(self, receiver: Any) -> None:
        self.receiver = receiver

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self.receiver = None

    async def _send_data(self, data: bytes) -> None:
        self._dtls.send_application_data(data)

    async def run(self) -> None:
        while True:
            await self.receiver._handle_data(await self.packets.get())


@asynccontextmanager
async def dtls_pair(
    role: DtlsRole, receive: Callable[[bytes], None], receive_other: Callable[[bytes], None]
) -> AsyncIterator[tuple[DtlsTransport, DtlsTransport]]:
    """Ours in `role` first. Datagrams take one turn of the loop."""
    loop = asyncio.get_running_loop()
    up = asyncio.Queue[None]()
    certificates = (Certificate(), Certificate())
    ends: list[DtlsTransport] = []
    for index, certificate in enumerate(certificates):
        ends.append(
            DtlsTransport(
                certificate,
                send=lambda datagram, to=1 - index: cast(
                    None, loop.call_soon(ends[to].receive, datagram)
                ),
                on_connected=lambda: up.put_nowait(None),
                on_failed=lambda reason: None,
                on_application_data=(receive, receive_other)[index],
                on_closed=lambda: None,
            )
        )
    roles: tuple[DtlsRole, DtlsRole] = (role, "client" if role == "server" else "server")
    for end, own_role, other in zip(ends, roles, reversed(certificates), strict=True):
        end.start(role=own_role, remote=RemoteFingerprint("sha-256", other.fingerprint))
    async with asyncio.timeout(25):
        await up.get()
        await up.get()
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.close()


@asynccontextmanager
async def ours_and_aiortc(role: DtlsRole) -> AsyncIterator[tuple[SctpTransport, Ours, Any]]:
    books = Ours()
    ours: list[SctpTransport] = []
    theirs: list[AiortcDtls] = []
    async with dtls_pair(
        role,
        lambda packet: ours[0].receive(packet),
        lambda packet: theirs[0].packets.put_nowait(packet),
    ) as (near, far):
        theirs.append(AiortcDtls(far))
        association = RTCSctpTransport(cast(Any, theirs[0]), port=5000)
        ours.append(
            SctpTransport(
                near,
                on_open=books.channels.put_nowait,
                on_message=lambda _, message: books.messages.put_nowait(message),
                on_failed=books.failures.append,
            )
        )
        ours[0].start(remote_port=5000)
        await association.start(RTCSctpCapabilities(maxMessageSize=262_144), 5000)
        worker = asyncio.create_task(theirs[0].run())
        try:
            async with asyncio.timeout(25):
                yield ours[0], books, association
        finally:
            await ours[0].close()
            await asyncio.sleep(0)
            worker.cancel()
            await asyncio.wait([worker])
            await association.stop()
    assert books.failures == []


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("opener", ["ours", "theirs"])
async def test_messages_of_every_size_cross_both_ways(role: DtlsRole, opener: str) -> None:
    async with ours_and_aiortc(role) as (sctp, books, association):
        arrived: asyncio.Queue[bytes | str] = asyncio.Queue()
        adopted: asyncio.Queue[RTCDataChannel] = asyncio.Queue()
        association.on("datachannel", adopted.put_nowait)
        if opener == "ours":
            sctp.create_channel("calls-dc")
            theirs = await adopted.get()
        else:
            theirs = RTCDataChannel(association, RTCDataChannelParameters(label="calls-dc"))
        theirs.on("message", arrived.put_nowait)
        channel = await books.channels.get()
        assert channel.label == theirs.label == "calls-dc"
        for size in SIZES:
            for message in (bytes(size), "é" * (size // 2)):
                assert channel.send(message)
                assert await arrived.get() == message
                theirs.send(message)
                assert await books.messages.get() == message


@pytest.mark.parametrize("role", ["client", "server"])
async def test_a_channel_closed_by_either_side_is_closed_on_both(role: DtlsRole) -> None:
    async with ours_and_aiortc(role) as (sctp, books, association):
        adopted: asyncio.Queue[RTCDataChannel] = asyncio.Queue()
        association.on("datachannel", adopted.put_nowait)
        for closer in ("ours", "theirs", "ours"):
            sctp.create_channel("calls-dc")
            ours, theirs = await books.channels.get(), await adopted.get()
            if closer == "ours":
                ours.close()
            else:
                theirs.close()
            while ours.open or theirs.readyState != "closed":
                await asyncio.sleep(0.005)


async def test_an_abort_ends_both() -> None:
    async with ours_and_aiortc("client") as (sctp, books, association):
        sctp.create_channel("calls-dc")
        channel = await books.channels.get()
        await association.stop()
        while channel.open:
            await asyncio.sleep(0.005)
