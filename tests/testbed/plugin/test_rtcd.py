"""The stand-in's connection to one SFU, against a played one on loopback (rtcd.md 1.5, 2, 4)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from sfu.messages import Close, Join, Leave, Message, Rtc, RtcMessage, RtcType, encode
from testbed.plugin.rtcd import Credentials, RtcdClient, RtcdError, RtcdUrl

_TIMEOUT_S = 25.0
_KEY = "k" * 32


class Peer:
    """A client of the played SFU; the name it dials by is not resolved by anybody."""

    def __init__(self, url: str) -> None:
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        port = RtcdUrl.parse(url).port
        self.client = RtcdClient(
            RtcdUrl("http", "sfu.test", port),
            "127.0.0.1",
            Credentials("standin", _KEY),
            on_message=self._on_message,
        )

    async def _on_message(self, message: Message) -> None:
        self.heard.put_nowait(message)

    async def next(self) -> Message:
        async with asyncio.timeout(_TIMEOUT_S):
            return await self.heard.get()


@pytest.fixture
async def peer(played_sfu) -> AsyncIterator[Peer]:
    """Connected."""
    peer = Peer(played_sfu.url)
    await peer.client.connect()
    running = asyncio.create_task(peer.client.run())
    yield peer
    running.cancel()
    await asyncio.wait([running])


async def test_who_is_not_known_registers_with_its_key_and_connects_then(played_sfu) -> None:
    client = Peer(played_sfu.url).client
    await client.connect()
    basic = "Basic " + base64.b64encode(b"standin:" + b"k" * 32).decode()
    assert played_sfu.registrations == [(basic, {"clientID": "standin", "authKey": _KEY})]
    assert played_sfu.authorizations == [basic, basic]
    assert client.version["buildVersion"] == "v1.2.6"
    await client.close()


async def test_who_is_known_does_not_register_again(played_sfu) -> None:
    for _ in range(2):
        client = Peer(played_sfu.url).client
        await client.connect()
        await client.close()
    assert len(played_sfu.registrations) == 1


async def test_it_dials_the_address_and_names_the_host(played_sfu, peer: Peer) -> None:
    port = played_sfu.url.rpartition(":")[2]
    assert set(played_sfu.hosts) == {f"sfu.test:{port}"}


@pytest.mark.parametrize("status", [400, 401, 403, 500])
async def test_a_refused_registration_is_an_error_with_its_status(played_sfu, status: int) -> None:
    played_sfu.registration_status = status
    with pytest.raises(RtcdError, match=f"at 127.0.0.1 .*HTTP {status}") as caught:
        await Peer(played_sfu.url).client.connect()
    assert _KEY not in str(caught.value)


async def test_an_sfu_that_does_not_answer_is_named_by_its_url(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(RtcdError, match=f"{unused_tcp_port} at 127.0.0.1 does not answer"):
        await Peer(url).client.connect()


@pytest.mark.parametrize("build", ["v0.17.0", "0.18.1", "v1.2.6", "", "master", "dev-abc"])
async def test_versions_that_will_do(played_sfu, build: str) -> None:
    played_sfu.version = {"buildVersion": build}
    client = Peer(played_sfu.url).client
    await client.connect()
    await client.close()


@pytest.mark.parametrize("build", ["v0.16.9", "0.1.0", "latest"])
async def test_an_old_version_is_refused(played_sfu, build: str) -> None:
    played_sfu.version = {"buildVersion": build}
    with pytest.raises(RtcdError, match=f"has version '{build}'"):
        await Peer(played_sfu.url).client.connect()
    assert not played_sfu.authorizations


async def test_it_asks_for_the_load(played_sfu) -> None:
    assert await Peer(played_sfu.url).client.cpu_load() == 0.25


@pytest.mark.parametrize("answer", [{}, [], {"cpu_load": None}])
async def test_an_sfu_that_tells_no_load_is_an_error(played_sfu, answer: object) -> None:
    played_sfu.load = answer
    with pytest.raises(RtcdError, match="tells no load"):
        await Peer(played_sfu.url).client.cpu_load()


def test_a_url_needs_a_scheme_a_host_and_a_port() -> None:
    assert RtcdUrl.parse("https://id:key@sfu.test:8045") == RtcdUrl("https", "sfu.test", 8045)
    for text in ("sfu.test:8045", "http://sfu.test", "ftp://sfu.test:1", "http://:1", "http://a:b"):
        with pytest.raises(RtcdError, match=r"should be http\(s\)://host:port"):
            RtcdUrl.parse(text)


def test_the_key_in_a_url_that_is_refused_is_not_shown() -> None:
    with pytest.raises(RtcdError) as caught:
        RtcdUrl.parse("http://id:secret@sfu.test")
    assert "secret" not in str(caught.value)


def test_credentials_come_from_the_url_or_are_made_anew() -> None:
    given = Credentials.of_url("http://id:a%40b@sfu.test:1")
    assert (given.client_id, given.auth_key) == ("id", "a@b")
    one, two = (Credentials.of_url("http://sfu.test:1") for _ in range(2))
    assert one.auth_key != two.auth_key
    assert one.client_id != two.client_id
    assert len(one.auth_key) >= 32
    assert one.auth_key not in repr(one)


async def test_messages_go_both_ways_in_order_with_basic_auth(played_sfu, peer: Peer) -> None:
    messages = [
        Join("call", "user", "s1", "channel", dc_signaling=True),
        Rtc(RtcMessage(RtcType.SDP, "s1", b"offer")),
        Leave("s1"),
    ]
    for message in messages:
        peer.client.send(message)
    connection = await played_sfu.connection()
    assert [await played_sfu.next() for _ in messages] == messages
    for message in (Rtc(RtcMessage(RtcType.SDP, "s1", b"answer")), Close("s1")):
        await connection.send_bytes(encode(message))
        assert await peer.next() == message


async def test_a_frame_that_cannot_be_read_is_passed_over(played_sfu, peer: Peer) -> None:
    connection = await played_sfu.connection()
    await connection.send_bytes(b"\xc1")
    await connection.send_text("text")
    await connection.send_bytes(encode(Close("s1")))
    assert await peer.next() == Close("s1")


@pytest.mark.parametrize("code", [1000, 1011])
async def test_it_ends_with_its_connection(played_sfu, code: int) -> None:
    client = Peer(played_sfu.url).client
    await client.connect()
    running = asyncio.create_task(client.run())
    await (await played_sfu.connection()).close(code)
    async with asyncio.timeout(_TIMEOUT_S):
        await running


async def test_a_full_queue_drops_what_comes_last() -> None:
    client = Peer("http://127.0.0.1:1").client
    for number in range(2001):
        client.send(Leave(f"s{number}"))
    assert client._outgoing.statistics().dropped == 1
    assert client._outgoing.receive_nowait() == encode(Leave("s0"))
