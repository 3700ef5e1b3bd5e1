"""Which servers are asked for candidates, and when the plugin is asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from callclient.ice_servers import fetch_ice_servers
from callclient.plugin_api import ApiError
from callclient.transport import MediaTransport
from rtc.turn.servers import IceServer

_TURN = {"urls": ["turn:t.example.org"], "username": "1:u", "credential": "c"}


class Api:
    """The plugin's two routes."""

    def __init__(self, config: dict[str, Any], credentials: Any = None) -> None:
        self.config, self.credentials = config, credentials
        self.asked_for_credentials = False

    async def client_config(self) -> dict[str, Any]:
        return self.config

    async def turn_credentials(self) -> Any:
        self.asked_for_credentials = True
        if self.credentials is None:
            raise ApiError("GET turn-credentials: refused", status=403, retryable=False)
        return self.credentials


async def test_without_configured_servers_nobody_is_asked() -> None:
    api = Api({"ICEServersConfigs": None, "NeedsTURNCredentials": False})
    assert await fetch_ice_servers(api) == []
    assert not api.asked_for_credentials


async def test_short_lived_credentials_are_asked_for_where_the_config_says_so() -> None:
    stun = {"urls": ["stun:s.example.org"]}
    api = Api({"ICEServersConfigs": [stun], "NeedsTURNCredentials": True}, [_TURN])
    servers = await fetch_ice_servers(api)
    assert [str(url) for server in servers for url in server.urls] == [
        "stun s.example.org:3478 over UDP",
        "turn t.example.org:3478 over UDP",
    ]
    assert servers[1].has_credentials


class Plugin:
    """Counts who asks, by the time of the loop."""

    def __init__(self) -> None:
        self.asked_at_s: list[float] = []

    async def fetch(self) -> list[IceServer]:
        self.asked_at_s.append(asyncio.get_running_loop().time())
        return []

    @asynccontextmanager
    async def transport(self, **options: Any) -> AsyncIterator[MediaTransport]:
        """One that never connects."""
        transport = MediaTransport(fetch_servers=self.fetch, **options)
        running = asyncio.create_task(transport.run())
        yield transport
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.looptime(start=0)
async def test_servers_are_asked_for_when_a_second_brought_no_direct_way() -> None:
    plugin = Plugin()
    async with plugin.transport():
        await asyncio.sleep(10)
    assert plugin.asked_at_s == [pytest.approx(1, abs=0.01)]


@pytest.mark.looptime(start=0)
async def test_for_a_relay_alone_servers_are_asked_for_at_once() -> None:
    plugin = Plugin()
    async with plugin.transport(policy="relay"):
        await asyncio.sleep(10)
    assert plugin.asked_at_s == [pytest.approx(0, abs=0.01)]


@pytest.mark.looptime(start=0)
async def test_for_tcp_alone_nobody_is_asked() -> None:
    plugin = Plugin()
    async with plugin.transport(policy="tcp"):
        await asyncio.sleep(10)
    assert plugin.asked_at_s == []


@pytest.mark.looptime(start=0)
async def test_a_call_whose_path_died_asks_again_as_credentials_expire() -> None:
    plugin = Plugin()
    async with plugin.transport() as transport:
        await asyncio.sleep(100)
        transport.in_need()
        await asyncio.sleep(10)
    assert plugin.asked_at_s == [pytest.approx(1, abs=0.01), pytest.approx(101, abs=0.01)]
