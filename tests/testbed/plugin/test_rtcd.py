"""The stand-in's connection to the SFU, against a played one on loopback (rtcd.md 1.5, 2)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from sfu.messages import (
    Close,
    Join,
    Leave,
    Message,
    Reconnect,
    Rtc,
    RtcMessage,
    RtcType,
    encode,
)
from testbed.plugin.rtcd import RtcdClient, RtcdError

_TIMEOUT_S = 10.0


class Peer:
    """A client of the played SFU, running."""

    def __init__(self, url: str) -> None:
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.sessions: list[str] = []
        self.client = RtcdClient(
            url,
            on_message=self._on_message,
            live_sessions=lambda: self.sessions,
            client_id="standin",
            auth_key="k" * 32,
        )

    async def _on_message(self, message: Message) -> None:
        self.heard.put_nowait(message)

    async def next(self) -> Message:
        async with asyncio.timeout(_TIMEOUT_S):
            return await self.heard.get()


@pytest.fixture
def sfu(played_sfu, monkeypatch: pytest.MonkeyPatch):
    """The played SFU, to which a lost connection comes back at once."""
    monkeypatch.setattr("testbed.plugin.rtcd._RECONNECT_S", 0.0)
    return played_sfu


@pytest.fixture
async def peer(sfu) -> AsyncIterator[Peer]:
    peer = Peer(sfu.url)
    running = asyncio.create_task(peer.client.run())
    yield peer
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])


async def test_it_registers_with_its_key_and_learns_the_version(sfu) -> None:
    client = Peer(sfu.url).client
    await client.register()
    basic = "Basic " + base64.b64encode(b"standin:" + b"k" * 32).decode()
    assert sfu.registrations == [(basic, {"clientID": "standin", "authKey": "k" * 32})]
    assert client.version == "v1.2.6"


async def test_a_client_that_is_known_already_goes_on(sfu) -> None:
    sfu.registration_status = 400
    await Peer(sfu.url).client.register()


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_refused_registration_is_an_error_with_its_status(sfu, status: int) -> None:
    sfu.registration_status = status
    with pytest.raises(RtcdError, match=f"HTTP {status}") as caught:
        await Peer(sfu.url).client.register()
    assert "k" * 32 not in str(caught.value)


async def test_an_sfu_that_does_not_answer_is_named_by_its_url(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(RtcdError, match=f"{url} does not answer"):
        await Peer(url).client.register()


async def test_each_client_makes_a_key_of_its_own_of_32_characters() -> None:
    keys = set()
    for _ in range(2):
        client = RtcdClient("http://sfu", on_message=_ignore, live_sessions=list)
        keys.add(client._basic())
    assert len(keys) == 2
    assert all(len(base64.b64decode(key.split()[1]).split(b":")[1]) >= 32 for key in keys)


async def _ignore(_: Message) -> None:
    return None


async def test_messages_go_both_ways_in_order_with_basic_auth(sfu, peer: Peer) -> None:
    messages = [
        Join("call", "user", "s1", "channel", dc_signaling=True),
        Rtc(RtcMessage(RtcType.SDP, "s1", b"offer")),
        Leave("s1"),
    ]
    for message in messages:
        peer.client.send(message)
    connection = await sfu.connection()
    assert [await sfu.next() for _ in messages] == messages
    assert sfu.authorizations[0].startswith("Basic ")
    for message in (Rtc(RtcMessage(RtcType.SDP, "s1", b"answer")), Close("s1")):
        await connection.send_bytes(encode(message))
        assert await peer.next() == message


async def test_what_is_said_before_the_connection_stands_is_sent_then(sfu) -> None:
    peer = Peer(sfu.url)
    peer.client.send(Leave("early"))
    running = asyncio.create_task(peer.client.run())
    assert await sfu.next() == Leave("early")
    running.cancel()
    await asyncio.wait([running])


async def test_a_frame_that_cannot_be_read_is_passed_over(sfu, peer: Peer) -> None:
    connection = await sfu.connection()
    await connection.send_bytes(b"\xc1")
    await connection.send_text("text")
    await connection.send_bytes(encode(Close("s1")))
    assert await peer.next() == Close("s1")


@pytest.mark.parametrize("code", [1000, 1011])
async def test_after_a_close_it_comes_back_and_binds_its_sessions_anew(
    sfu, peer: Peer, code: int
) -> None:
    first = await sfu.connection()
    peer.sessions = ["s1", "s2"]
    await first.close(code)
    second = await sfu.connection()
    assert {await sfu.next(), await sfu.next()} == {Reconnect("s1"), Reconnect("s2")}
    await second.send_bytes(encode(Close("s1")))
    assert await peer.next() == Close("s1")


async def test_it_comes_back_after_the_connection_broke_without_a_word(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.plugin.rtcd._RECONNECT_S", 0.0)
    attempts: asyncio.Queue[int] = asyncio.Queue()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        attempts.put_nowait(1)
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", unused_tcp_port)
    client = RtcdClient(
        f"http://127.0.0.1:{unused_tcp_port}", on_message=_ignore, live_sessions=list
    )
    running = asyncio.create_task(client.run())
    async with asyncio.timeout(_TIMEOUT_S):
        for _ in range(3):
            await attempts.get()
    assert not client.connected.is_set()
    running.cancel()
    await asyncio.wait([running])
    server.close()
    await server.wait_closed()


async def test_a_full_queue_drops_what_comes_last() -> None:
    client = RtcdClient("http://sfu", on_message=_ignore, live_sessions=list)
    for number in range(2001):
        client.send(Leave(f"s{number}"))
    assert client._outgoing.statistics().dropped == 1
    assert client._outgoing.receive_nowait() == encode(Leave("s0"))
