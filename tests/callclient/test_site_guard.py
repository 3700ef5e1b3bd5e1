"""A token goes nowhere near a metadata service, whatever name leads there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from callclient.plugin_api import ApiError, PluginApi
from callclient.signaling.socket import Endpoint, SocketLost, WebSocketOpener
from callclient.site_guard import SiteRefused, check_site
from foundation import addresses

TOKEN = "tell-nobody"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names mean from now on; those that are not in it as ever."""
    known: dict[str, list[str]] = {}
    ask = asyncio.BaseEventLoop.getaddrinfo

    async def answer(self: Any, host: Any, port: Any, **options: Any) -> Any:
        if isinstance(host, bytes):  # as httpx's own network asks
            host = host.decode()
        if host not in known:
            return await ask(self, host, port, **options)
        if not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port or 0)) for a in known[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", answer)
    return known


@pytest.fixture
async def listener() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port on loopback, and what was sent there."""
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65536))
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], heard
    server.close()


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "https://[fe80::1]:8443", "http://[::ffff:a9fe:a9fe]"]
)
@pytest.mark.documents("a-site-whose-address-no-job-connects-to")
async def test_an_address_in_the_url_is_refused(url: str, documented: Any) -> None:
    with pytest.raises(SiteRefused) as refused:
        await check_site(url)
    documented("a-site-whose-address-no-job-connects-to", str(refused.value))


async def test_one_bad_address_among_a_names_is_enough(names: dict[str, list[str]]) -> None:
    names["chat.example.com"] = ["203.0.113.7", "169.254.169.254"]
    with pytest.raises(SiteRefused):
        await check_site("https://chat.example.com")
    names["chat.example.com"] = ["203.0.113.7", "10.0.0.1"]
    await check_site("https://chat.example.com")


async def test_a_name_that_nobody_knows_is_left_to_whoever_connects(
    names: dict[str, list[str]],
) -> None:
    names["chat.example.com"] = []
    await check_site("https://chat.example.com")


async def test_what_is_no_name_at_all_is_left_to_whoever_connects_too() -> None:
    for host in ("a..b", "a" * 64):
        await check_site(f"https://{host}")
        async with PluginApi(site_url=f"https://{host}", auth_token=TOKEN) as api:
            with pytest.raises(ApiError, match="no connection"):
                await api.client_config()


async def test_behind_a_proxy_the_proxy_resolves(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["chat.example.com"] = ["169.254.169.254"]
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    await check_site("https://chat.example.com")
    for host in ("169.254.169.254", "2852039166", "169.254.169.254."):
        with pytest.raises(SiteRefused):
            await check_site(f"https://{host}")


async def test_neither_a_request_nor_a_websocket_carries_a_token_there(
    names: dict[str, list[str]], listener: tuple[int, list[bytes]]
) -> None:
    port, heard = listener
    names["localhost"] = [
        "169.254.169.254"
    ]  # where it leads for us; a connection would reach the listener
    url = f"http://localhost:{port}"
    async with PluginApi(site_url=url, auth_token=TOKEN) as api:
        with pytest.raises(ApiError, match="link-local") as refused:
            await api.client_config()
    assert not refused.value.retryable
    with pytest.raises(SocketLost, match="link-local"):
        await WebSocketOpener()(Endpoint(url, TOKEN), 2)
    assert heard == []


@pytest.mark.parametrize("way", ["request", "websocket"])
async def test_nothing_is_sent_where_a_name_leads_since_it_was_looked_at(
    way: str,
    names: dict[str, list[str]],
    listener: tuple[int, list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the name means another address when the connection asks; loopback stands for it here."""
    port, heard = listener
    names["chat.example.com"] = ["203.0.113.7"]

    def why_forbidden(text: str) -> str:
        if text == "203.0.113.7":
            names["chat.example.com"] = ["127.0.0.1"]
        return addresses.why_forbidden("169.254.169.254" if text == "127.0.0.1" else text)

    monkeypatch.setattr("callclient.site_guard.why_forbidden", why_forbidden)
    url = f"http://chat.example.com:{port}"
    if way == "request":
        async with PluginApi(site_url=url, auth_token=TOKEN) as api:
            with pytest.raises(ApiError, match="link-local"):
                await api.client_config()
    else:
        with pytest.raises(SocketLost, match="link-local"):
            await WebSocketOpener()(Endpoint(url, TOKEN), 2)
    async with asyncio.timeout(5):
        while not heard:
            await asyncio.sleep(0)
    assert heard == [b""]


async def test_a_site_that_the_admin_has_named_may_be_anywhere(
    names: dict[str, list[str]], listener: tuple[int, list[bytes]]
) -> None:
    port, heard = listener
    url = f"http://127.0.0.1:{port}"
    names["127.0.0.1"] = ["169.254.169.254"]
    async with PluginApi(site_url=url, auth_token=TOKEN) as api:
        with pytest.raises(ApiError, match="link-local"):
            await api.client_config()
    names.clear()
    async with PluginApi(site_url=url, auth_token=TOKEN, site_is_allowed=True) as api:
        with pytest.raises(ApiError, match="no answer"):
            await api.client_config()
    with pytest.raises(SocketLost):
        await WebSocketOpener()(Endpoint(url, TOKEN, site_is_allowed=True), 2)
    assert len(heard) == 2
