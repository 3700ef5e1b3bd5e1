"""The admin's routes are for the admin alone; the local socket makes everybody the admin."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

ROUTES = [
    ("GET", "/admin/status"),
    ("POST", "/admin/drain"),
    ("POST", "/admin/undrain"),
    ("GET", "/admin/clients"),
    ("POST", "/admin/clients/add"),
    ("POST", "/admin/clients/rotate"),
    ("POST", "/admin/clients/revoke"),
    ("POST", "/admin/clients/adopt"),
]
SECRET = "s" * 32


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_client_is_refused_and_nobody_is_registered(
    running: Any, method: str, path: str
) -> None:
    await running.post_job(client="plugin")
    headers = running.basic("plugin")
    refused = await running.http.request(method, path, headers=headers, json={"clientID": "x"})
    assert refused.status_code == 403
    assert refused.json()["error"] == "only the admin may do that"
    stranger = await running.http.request(method, path, headers=running.basic("stranger"), json={})
    assert stranger.status_code == 401
    nobody = await running.http.request(method, path, json={})
    assert nobody.status_code == 401
    assert not running.offloader.entrance.closed


async def test_the_admins_key_opens_them_only_where_it_is_enabled(start: Any) -> None:
    enabled = await start(API_SECURITY_ENABLEADMIN="true", API_SECURITY_ADMINSECRETKEY=SECRET)
    answer = await enabled.http.get("/admin/status", headers=enabled.basic("a", SECRET))
    assert answer.status_code == 200
    off = await start(API_SECURITY_ADMINSECRETKEY=SECRET)
    answer = await off.http.get("/admin/status", headers=off.basic("a", SECRET))
    assert answer.status_code == 401


async def test_whoever_comes_through_the_socket_is_the_admin_whatever_they_send(
    running: Any,
) -> None:
    job_id = await running.create_job(client="plugin")
    transport = httpx.ASGITransport(running.offloader.local_app)
    async with httpx.AsyncClient(transport=transport, base_url="http://local") as local:
        assert (await local.get("/admin/status")).status_code == 200
        wrong = {"Authorization": "Bearer nonsense"}
        assert (await local.get(f"/jobs/{job_id}", headers=wrong)).status_code == 200


async def test_an_empty_key_never_makes_an_admin(running: Any) -> None:
    answer = await running.http.get("/admin/status", headers=running.basic("a", ""))
    assert answer.status_code == 401
