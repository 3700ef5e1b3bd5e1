"""Version, load and paths that are not there (rtcd.md 1.4, traps 12 and 14)."""

from __future__ import annotations

import asyncio
import re

import pytest


async def test_the_version_has_six_texts_and_needs_no_authentication(plane) -> None:
    response = await plane.http.get("/version")
    assert response.status_code == 200
    document = response.json()
    assert set(document) == {
        *("buildDate", "buildVersion", "buildHash", "goVersion", "goOS", "goArch"),
    }
    assert document["goOS"] == "linux"
    assert document["goVersion"]
    assert document["goArch"]


async def test_the_version_is_one_that_the_plugins_check_understands(plane) -> None:
    """Trap 12: else the plugin refuses the host or turns the signaling lock off."""
    version = (await plane.http.get("/version")).json()["buildVersion"]
    match = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", version)
    assert match or version.startswith("dev")
    if match:
        assert tuple(int(part) for part in match.groups()[:2]) >= (0, 16)


@pytest.mark.looptime
async def test_the_load_is_measured_once_a_second_and_needs_no_authentication(
    start_plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Load:
        samples = 0

        def sample(self) -> float:
            self.samples += 1
            return 0.125 * (self.samples - 1)

    monkeypatch.setattr("sfu.control.SystemLoad", Load)
    plane = await start_plane()
    seen = []
    async with plane.app.router.lifespan_context(plane.app):
        await asyncio.sleep(0.5)
        for _ in range(3):
            response = await plane.http.get("/system")
            assert response.status_code == 200
            seen.append(response.json())
            await asyncio.sleep(1)
    assert seen == [{"cpu_load": 0.0}, {"cpu_load": 0.125}, {"cpu_load": 0.25}]


NOT_THERE = (
    *(("POST", "/version"), ("HEAD", "/version"), ("POST", "/system"), ("GET", "/register")),
    *(("PUT", "/register"), ("GET", "/unregister"), ("DELETE", "/unregister"), ("GET", "/login")),
    *(("POST", "/calls/call/sessions"), ("DELETE", "/calls/call/sessions/s1"), ("POST", "/ws")),
    *(("GET", "/"), ("GET", "/calls"), ("GET", "/calls/call"), ("GET", "/version/")),
    *(("GET", "/docs"), ("GET", "/redoc"), ("GET", "/openapi.json"), ("GET", "/debug/pprof/")),
)


@pytest.mark.parametrize(("method", "path"), NOT_THERE)
async def test_an_unknown_path_and_a_wrong_method_are_404(plane, method: str, path: str) -> None:
    response = await plane.http.request(method, path, headers=plane.basic())
    assert response.status_code == 404
    if method != "HEAD":
        assert response.text.strip() == "404 page not found"
