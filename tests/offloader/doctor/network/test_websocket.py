"""Verdicts of the step `websocket`, each provoked by a site or a proxy before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from offloader.doctor.network import websocket
from offloader.doctor.network.websocket import WEBSOCKET

Look = Callable[..., Awaitable[Any]]
TOKEN = "a-token-of-this-test"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_HELLO_S", 0.5)


async def test_hello_is_waited_for_with_a_token_only(look: Look, site: Any) -> None:
    found = await look(WEBSOCKET, site_url=site.url)
    assert found.verdicts == {"websocket_upgrades": "ok", "hello_needs_token": "skipped"}
    found = await look(WEBSOCKET, site_url=site.url, token=TOKEN)
    assert found.verdicts == {"websocket_upgrades": "ok", "hello_came": "ok"}
    assert found["hello_came"].data["server_version"] == "11.0.0"


async def test_a_proxy_that_strips_the_upgrade_is_named(look: Look, proxy: Any) -> None:
    proxy.strips_upgrade = True
    found = (await look(WEBSOCKET, site_url=proxy.url, token=TOKEN))["websocket_upgrade_stripped"]
    assert found.verdict == "failure"
    assert "HTTP 400 instead of 101" in found.value
    assert "proxy_set_header Upgrade" in found.fix[0]


async def test_a_proxy_that_holds_the_upgrade_is_named(look: Look, proxy: Any) -> None:
    proxy.holds_upgrade = True
    found = await look(WEBSOCKET, site_url=proxy.url, token=TOKEN)
    assert found.verdicts == {"websocket_no_answer": "failure"}


async def test_a_proxy_that_passes_it_on_is_fine(look: Look, proxy: Any) -> None:
    found = await look(WEBSOCKET, site_url=proxy.url, token=TOKEN)
    assert found.verdicts == {"websocket_upgrades": "ok", "hello_came": "ok"}


async def test_an_upgrade_that_is_refused_is_told_with_its_status(
    look: Look, listening: Callable[..., Awaitable[int]]
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)

    url = f"http://127.0.0.1:{await listening(refuse)}"
    found = (await look(WEBSOCKET, site_url=url))["websocket_refused"]
    assert "HTTP 403" in found.value
    url = f"http://127.0.0.1:{await listening(hang_up)}"
    assert (await look(WEBSOCKET, site_url=url)).verdicts == {"websocket_fails": "failure"}


async def test_no_hello_with_a_bad_token_is_the_tokens_fault(look: Look, site: Any) -> None:
    site.hello = None
    site.answers["/plugins/com.mattermost.calls/config"] = (401, {})
    found = await look(WEBSOCKET, site_url=site.url, token=TOKEN)
    assert found.verdicts["hello_token_refused"] == "failure"


async def test_no_hello_with_a_good_token_is_the_proxys_fault(look: Look, site: Any) -> None:
    site.hello = None
    found = await look(WEBSOCKET, site_url=site.url, token=TOKEN)
    assert found.verdicts["hello_missing"] == "failure"


async def test_a_late_hello_is_a_warning(look: Look, site: Any, hurry: Callable[..., None]) -> None:
    hurry(websocket, _SLOW_HELLO_S=0.05)
    site.hello_after_s = 0.1
    found = await look(WEBSOCKET, site_url=site.url, token=TOKEN)
    assert found.verdicts["hello_slow"] == "warning"


async def test_the_servers_own_time_is_compared(look: Look, site: Any) -> None:
    site.clock_ahead_s = 1.5
    found = (await look(WEBSOCKET, site_url=site.url, token=TOKEN))["clock_off"]
    assert found.data["offset_s"] == pytest.approx(1.5, abs=0.1)
    site.clock_ahead_s = -9
    found = await look(WEBSOCKET, site_url=site.url, token=TOKEN)
    assert found.verdicts["clock_far_off"] == "failure"
