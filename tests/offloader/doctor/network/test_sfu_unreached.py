"""What the step `sfu` says where no session is to be had: APIs that refuse, ports that are knocked at."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from aiohttp import web

from offloader.doctor.network import media_probe, rtcd, sfu
from offloader.doctor.network.sfu import SFU

Look = Callable[..., Awaitable[Any]]
BASE = "/plugins/com.mattermost.calls"


async def test_no_address_at_all_is_not_looked_at(look: Look) -> None:
    assert (await look(SFU)).verdicts == {"sfu_unknown": "skipped"}


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://sfu:8045", "rtcd_url_wrong"),
        ("http://sfu.invalid:8045", "rtcd_not_resolved"),
    ],
)
async def test_urls_of_no_use_are_failures(look: Look, url: str, code: str) -> None:
    assert (await look(SFU, rtcd_url=url)).verdicts == {code: "failure"}


async def test_an_authority_that_is_none_is_told_by_another_step(
    look: Look, tmp_path: Path
) -> None:
    found = await look(SFU, rtcd_url="http://127.0.0.1:1", ca_file=tmp_path / "gone.pem")
    assert found.verdicts == {"ca_file_unusable": "skipped"}


async def test_an_api_that_nobody_serves_is_a_failure(look: Look, closed_port: int) -> None:
    url = f"http://client:hidden-key@127.0.0.1:{closed_port}"
    found = await look(SFU, rtcd_url=url)
    assert found.verdicts == {"rtcd_unreachable": "failure"}
    assert "hidden-key" not in str(found.all)


async def test_something_else_is_told_from_an_sfu(look: Look, site: Any) -> None:
    found = await look(SFU, MM_CALLS_RTCD_SERVICE_URL=site.url)
    assert found.verdicts == {"rtcd_is_something_else": "failure"}


async def test_an_sfu_that_registers_nobody_wants_credentials(look: Look, site: Any) -> None:
    site.answers["/version"] = (200, {"buildVersion": "v1.2.6"})
    site.answers["/register"] = (401, {})
    found = await look(SFU, rtcd_url=site.url)
    assert found.verdicts == {"rtcd_wants_credentials": "skipped"}
    assert found.all[0].fix


async def test_credentials_that_the_sfu_does_not_know_are_told(look: Look, site: Any) -> None:
    site.answers["/version"] = (200, {"buildVersion": "v1.2.6"})
    site.answers["/ws"] = (401, {})
    url = site.url.replace("//", "//plugin:hidden-key@")
    found = await look(SFU, rtcd_url=url)
    assert found.verdicts == {"rtcd_credentials_refused": "failure"}
    assert "hidden-key" not in str(found.all)


@pytest.mark.parametrize(
    ("says_goodbye", "code"), [(True, "rtcd_refuses_session"), (False, "rtcd_silent")]
)
async def test_an_sfu_that_answers_no_offer_is_told(
    look: Look, rtcd_that: Callable[..., Awaitable[str]], says_goodbye: bool, code: str
) -> None:
    url = await rtcd_that(says_goodbye=says_goodbye)
    assert (await look(SFU, rtcd_url=url)).verdicts == {code: "failure"}


@pytest.fixture
async def rtcd_that(hurry: Callable[..., None]) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """The URL of an rtcd that lets everybody in, and answers no offer; perhaps it says goodbye."""
    runners: list[web.AppRunner] = []

    async def start(*, says_goodbye: bool) -> str:
        async def plain(request: web.Request) -> web.Response:
            if request.path == "/register":
                return web.json_response({}, status=201)
            return web.json_response({"buildVersion": "v1.2.6"})

        async def signaling(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                if says_goodbye:
                    goodbye = msgpack.packb("close") + msgpack.packb({"sessionID": "s"})
                    await socket.send_bytes(goodbye)
            return socket

        hurry(rtcd, _TIMEOUT_S=0.5)
        app = web.Application()
        app.router.add_get("/ws", signaling)
        app.router.add_route("*", "/{path:.*}", plain)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_an_rtcd_elsewhere_has_to_be_named(look: Look, site: Any) -> None:
    found = await look(SFU, site_url=site.url)
    assert found.verdicts == {"sfu_unknown": "skipped"}
    assert "--rtcd-url" in found.all[0].cause


@pytest.fixture
def media_port(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The port of every plugin's own SFU is another one than 8443, which somebody may have here."""
    return lambda port: monkeypatch.setattr(sfu, "MEDIA_PORT", port)


async def test_the_plugins_own_sfu_is_knocked_at(
    look: Look,
    site: Any,
    listening: Callable[..., Awaitable[int]],
    closed_port: int,
    media_port: Callable[[int], None],
    hurry: Callable[..., None],
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    site.answers[f"{BASE}/version"] = (200, {"version": "1.12.2"})
    hurry(media_probe, _PATIENCE_S=0.05)
    media_port(closed_port)
    assert (await look(SFU, site_url=site.url)).verdicts == {"sfu_not_listening": "failure"}
    port = await listening(silent)
    media_port(port)
    assert (await look(SFU, site_url=site.url)).verdicts == {"sfu_udp_refused": "warning"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", port))
        assert (await look(SFU, site_url=site.url)).verdicts == {"sfu_listens": "note"}
