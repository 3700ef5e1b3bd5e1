"""Verdicts of the steps `http` and `site-clock`, each provoked by a site that answers so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from offloader.doctor.network.answers import CLOCK, HTTP, PING
from offloader.doctor.network.ice_servers import ICE_SERVERS
from offloader.doctor.network.job_service import JOB_SERVICE
from offloader.doctor.network.plugin import PLUGIN

Look = Callable[..., Awaitable[Any]]


async def test_mattermost_that_answers_is_good(look: Look, site: Any) -> None:
    assert (await look(HTTP, site_url=site.url)).verdicts == {"http_answers": "ok"}


@pytest.mark.parametrize(
    ("answer", "code", "verdict"),
    [
        ((502, {}), "http_mattermost_down", "failure"),
        ((504, {}), "http_mattermost_down", "failure"),
        ((403, {}), "http_refused", "failure"),
        ((404, {}), "http_no_mattermost", "warning"),
        ((200, {"hello": "world"}), "http_no_mattermost", "warning"),
    ],
)
async def test_other_answers_are_told(
    look: Look, site: Any, answer: Any, code: str, verdict: str
) -> None:
    site.answers[PING] = answer
    assert (await look(HTTP, site_url=site.url)).verdicts == {code: verdict}


async def test_a_redirect_names_the_url_to_use(look: Look, site: Any) -> None:
    def moved(request: web.Request, size: int) -> web.Response:
        return web.Response(status=301, headers={"Location": "https://u:p@chat.example.com/api"})

    site.answers[PING] = moved
    found = (await look(HTTP, site_url=site.url))["http_redirects"]
    assert found.verdict == "failure"
    assert f'jobs.site_url_overrides = {{"{site.url}" = "https://chat.example.com"}}' in found.fix
    assert "u:p" not in str(found)


async def test_a_connection_without_an_answer_is_a_failure(
    look: Look, listening: Callable[..., Awaitable[int]]
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)

    url = f"http://127.0.0.1:{await listening(hang_up)}"
    assert (await look(HTTP, site_url=url)).verdicts == {"http_no_answer": "failure"}
    for step, code in (
        (CLOCK, "clock_no_answer"),
        (PLUGIN, "plugin_no_answer"),
        (JOB_SERVICE, "admin_no_answer"),
        (ICE_SERVERS, "ice_servers_unknown"),
    ):
        assert (await look(step, site_url=url, token="t" * 26)).verdicts == {code: "skipped"}


async def test_a_site_that_cannot_be_reached_is_told_by_others(
    look: Look, closed_port: int
) -> None:
    for step in (HTTP, CLOCK):
        found = await look(step, site_url=f"http://127.0.0.1:{closed_port}")
        assert found.verdicts == {"site_unreached": "skipped"}


@pytest.mark.parametrize(
    ("ahead_s", "code", "verdict"),
    [
        (0.0, "clock_agrees", "ok"),
        (2.5, "clock_off", "warning"),
        (-3.5, "clock_off", "warning"),
        (8.0, "clock_far_off", "failure"),
    ],
)
async def test_clocks_that_differ_are_told(
    look: Look, site: Any, ahead_s: float, code: str, verdict: str
) -> None:
    site.clock_ahead_s = ahead_s
    found = await look(CLOCK, site_url=site.url, quick=True)
    assert found.verdicts == {code: verdict}
    measured = found[code].data
    assert abs(measured["offset_s"] - ahead_s) <= measured["uncertainty_s"] + 0.01


async def test_several_looks_tell_more_than_whole_seconds(look: Look, site: Any) -> None:
    once = (await look(CLOCK, site_url=site.url, quick=True))["clock_agrees"]
    often = (await look(CLOCK, site_url=site.url))["clock_agrees"]
    assert often.data["uncertainty_s"] < once.data["uncertainty_s"] + 0.01
    assert often.data["uncertainty_s"] < 0.5


async def test_a_site_without_a_date_is_not_judged(
    look: Look, listening: Callable[..., Awaitable[int]]
) -> None:
    async def dateless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()

    url = f"http://127.0.0.1:{await listening(dateless)}"
    found = await look(CLOCK, site_url=url, quick=True)
    assert found.verdicts == {"clock_not_told": "skipped"}
