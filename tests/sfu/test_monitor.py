"""Metrics, profiles and load at an address of their own (docs/sfu.md)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

import sfu.__main__ as process
from foundation.shutdown import Shutdown
from sfu.control import create_monitor_app
from sfu.settings import load_settings

PROFILE = "/debug/pprof/goroutine"
EVERYWHERE = {"/healthz": 200, "/readyz": 200}


async def statuses(http: httpx.AsyncClient, paths: list[str], headers: dict[str, str]) -> list[int]:
    return [(await http.get(path, headers=headers)).status_code for path in paths]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, {"/metrics": 200, PROFILE: 200, "/system": 200, "/version": 200}),
        ({"monitor_apart": True}, {"/metrics": 404, PROFILE: 404, "/system": 200, "/version": 200}),
        (
            {"monitor_apart": True, "system_apart": True},
            {"/metrics": 404, PROFILE: 404, "/system": 404, "/version": 200},
        ),
    ],
)
async def test_what_monitors_ask_can_be_taken_from_the_plugins_address(
    start_plane, options: dict[str, bool], left: dict[str, int]
) -> None:
    plane = await start_plane(app_options=options)
    expected = left | EVERYWHERE
    found = await statuses(plane.http, list(expected), plane.admin())
    assert dict(zip(expected, found, strict=True)) == expected


@pytest.fixture
async def monitor(start_plane) -> AsyncIterator[httpx.AsyncClient]:
    """Asks at the monitors' own address."""
    plane = await start_plane(app_options={"monitor_apart": True})
    plane.app.state.cpu_load = 0.25
    plane.media.metrics.session_opened("plugin")
    transport = httpx.ASGITransport(create_monitor_app(plane.app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sfu:9045") as http:
        yield http


async def test_monitors_find_the_same_figures_there_and_nothing_that_changes_anything(
    plane, monitor: httpx.AsyncClient
) -> None:
    answer = await monitor.get("/metrics")
    assert 'rtcd_rtc_sessions_total{groupID="plugin"} 1.0' in answer.text
    assert (await monitor.get("/system")).json() == {"cpu_load": 0.25}
    assert await statuses(monitor, list(EVERYWHERE), {}) == [200, 200]
    for method, path in (
        *(("POST", "/register"), ("POST", "/login"), ("POST", "/drain"), ("GET", "/drain")),
        *(("GET", "/version"), ("GET", "/ws"), ("GET", "/calls/c/sessions"), ("GET", "/")),
    ):
        answer = await monitor.request(method, path, headers=plane.admin())
        assert (answer.status_code, answer.text) == (404, "404 page not found\n")


async def test_profiles_are_the_admins_there_too(plane, monitor: httpx.AsyncClient) -> None:
    assert (await monitor.get(PROFILE)).status_code == 401
    assert (await monitor.get(PROFILE, headers=plane.basic())).status_code == 403
    assert (await monitor.get(PROFILE, headers=plane.admin())).status_code == 200


async def test_the_process_listens_at_both_addresses_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: dict[str, int] = {}
    bound = asyncio.Event()

    def watched(name: str) -> None:
        opens = getattr(process, name)

        def open_and_tell(settings: object) -> socket.socket:
            listener: socket.socket = opens(settings)
            ports[name] = listener.getsockname()[1]
            if len(ports) == 2:
                bound.set()
            return listener

        monkeypatch.setattr(process, name, open_and_tell)

    watched("_listen")
    watched("_monitor")
    shutdown = Shutdown()
    monkeypatch.setattr(process, "shutdown_on_signals", lambda: _Given(shutdown))
    settings = load_settings(
        None,
        {
            "RTCD_API_HTTP_LISTENADDRESS": "127.0.0.1:0",
            "RTCD_API_MONITOR_LISTENADDRESS": "127.0.0.1:0",
            "RTCD_API_MONITOR_SYSTEM": "true",
            "RTCD_RTC_ICEADDRESSUDP": "127.0.0.1",
            "RTCD_RTC_ICEADDRESSTCP": "127.0.0.1",
            "RTCD_RTC_WORKERPROCESSES": "1",
            "RTCD_STORE_DATASOURCE": str(tmp_path),
        },
    )
    async with asyncio.timeout(25), asyncio.TaskGroup() as tasks:
        tasks.create_task(process._serve(replace(settings, ice_port_udp=0, ice_port_tcp=0)))
        await bound.wait()
        async with httpx.AsyncClient(trust_env=False) as http:
            plugins = f"http://127.0.0.1:{ports['_listen']}"
            monitors = f"http://127.0.0.1:{ports['_monitor']}"
            assert (await http.get(f"{plugins}/version")).status_code == 200
            assert (await http.get(f"{plugins}/metrics")).status_code == 404
            assert (await http.get(f"{plugins}/system")).status_code == 404
            assert (await http.get(f"{monitors}/metrics")).status_code == 200
            assert "cpu_load" in (await http.get(f"{monitors}/system")).json()
        shutdown.request()


class _Given:
    """In place of the process's signals."""

    def __init__(self, shutdown: Shutdown) -> None:
        self._shutdown = shutdown

    def __enter__(self) -> Shutdown:
        return self._shutdown

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("text", "expected"), [(":9045", ("", 9045)), ("127.0.0.1:9045", ("127.0.0.1", 9045))]
)
def test_the_monitors_address_is_a_host_and_a_port(text: str, expected: tuple[str, int]) -> None:
    variables = {"RTCD_API_MONITOR_LISTENADDRESS": text}
    assert load_settings(None, variables).monitor == expected
    assert load_settings(None, {}).monitor is None
