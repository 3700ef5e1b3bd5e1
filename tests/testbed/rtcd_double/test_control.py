"""The double's side towards the plugin, with the original's silences."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
import websockets
from websockets.asyncio.client import ClientConnection

from sfu.messages import Close, Hello, Join, Leave, Message, Reconnect, decode, encode
from testbed.rtcd_double.control import create_double_app
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.server import DoubleServer

KEY = "k" * 32
AUTHORIZATION = "Basic " + base64.b64encode(f"plugin:{KEY}".encode()).decode()


@dataclass
class Served:
    """A double with its HTTP side on a port."""

    media: DoubleServer
    url: str
    stack: AsyncExitStack

    async def register(self) -> None:
        async with httpx.AsyncClient() as http:
            body = {"clientID": "plugin", "authKey": KEY}
            assert (await http.post(f"{self.url}/register", json=body)).status_code == 201

    async def connect(self) -> ClientConnection:
        """A WebSocket of the registered plugin, after its hello."""
        connecting = websockets.connect(
            self.url.replace("http", "ws") + "/ws",
            additional_headers={"Authorization": AUTHORIZATION},
            proxy=None,
        )
        socket = await self.stack.enter_async_context(connecting)
        assert isinstance(await receive(socket), Hello)
        return socket


async def receive(socket: ClientConnection) -> Message:
    async with asyncio.timeout(25):
        frame = await socket.recv()
    assert isinstance(frame, bytes)
    return decode(frame)


@pytest.fixture
async def served(unused_tcp_port_factory: Callable[[], int]) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        media = DoubleServer(Script(first_offer_timeout_s=0.1))
        await media.start()
        stack.push_async_callback(media.close)
        url = await stack.enter_async_context(_serving(media, unused_tcp_port_factory()))
        yield Served(media, url, stack)


@asynccontextmanager
async def _serving(media: DoubleServer, port: int) -> AsyncIterator[str]:
    config = uvicorn.Config(
        create_double_app(media), port=port, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def test_a_socket_without_valid_credentials_gets_200_and_nothing(served: Served) -> None:
    url = served.url.replace("http", "ws") + "/ws"
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(
            url, additional_headers={"Authorization": AUTHORIZATION}, proxy=None
        )
    assert refused.value.response.status_code == 200
    assert refused.value.response.body in (b"", None)


async def test_a_join_that_cannot_be_has_no_echo_and_one_without_offer_is_closed(
    served: Served,
) -> None:
    await served.register()
    socket = await served.connect()
    await socket.send(encode(Join(call_id="", user_id="u", session_id="nobody")))
    await socket.send(encode(Join(call_id="c", user_id="u", session_id="silent")))
    await socket.send(encode(Join(call_id="c", user_id="u", session_id="silent")))
    assert await receive(socket) == Close("silent")
    await socket.send(encode(Join(call_id="c", user_id="u", session_id="next")))
    assert await receive(socket) == Close("next")


async def test_close_goes_to_the_connection_that_carried_the_join(served: Served) -> None:
    await served.register()
    first, second = await served.connect(), await served.connect()
    await first.send(encode(Join(call_id="c", user_id="u", session_id="s")))
    await second.send(encode(Reconnect("s")))
    await second.send(encode(Leave("s")))
    assert await receive(first) == Close("s")


async def test_sessions_can_be_looked_up(served: Served) -> None:
    await served.register()
    socket = await served.connect()
    await socket.send(encode(Join(call_id="c", user_id="u", session_id="s", channel_id="ch")))
    async with httpx.AsyncClient(headers={"Authorization": AUTHORIZATION}) as http:
        url = f"{served.url}/calls/c/sessions"
        while (found := await http.get(url)).status_code == 404:
            await asyncio.sleep(0.005)
        unknown = await http.get(f"{served.url}/calls/other/sessions")
        version = await http.get(f"{served.url}/version")
        load = await http.get(f"{served.url}/system")
    async with httpx.AsyncClient() as stranger:
        assert (await stranger.get(url)).status_code == 401
    [session] = found.json()
    assert session["GroupID"] == "plugin"
    assert session["Props"] == {"av1Support": False, "channelID": "ch", "dcSignaling": False}
    assert (unknown.status_code, unknown.text) == (
        404,
        "failed to get session configs: call not found\n",
    )
    assert version.json()["buildVersion"] == "v1.2.6"
    assert load.json()["cpu_load"] > 0
