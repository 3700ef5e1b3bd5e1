"""Authentication as the job service's clients meet it (job-service.md 2)."""

from __future__ import annotations

import pytest

KEY = "k" * 32


@pytest.fixture
async def closed(start):
    """A service without self-registration, with an admin."""
    return await start(
        API_SECURITY_ALLOWSELFREGISTRATION="false",
        API_SECURITY_ENABLEADMIN="true",
        API_SECURITY_ADMINSECRETKEY="a" * 32,
    )


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (None, "authentication failed: invalid auth header"),
        ("Basic !", "authentication failed: invalid auth header"),
        ("Digest x", "authentication failed: invalid auth header"),
        ("Basic OmtrawprZXk=", "authentication failed: unauthorized"),
        ("Bearer nonsense", "authentication failed: token is invalid"),
    ],
)
async def test_every_job_route_needs_authentication(running, header, text) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (
        ("POST", "/jobs"),
        ("POST", "/jobs/init"),
        ("GET", "/jobs/abcdef012345"),
        ("DELETE", "/jobs/abcdef012345"),
        ("GET", "/jobs/x/logs"),
    ):
        response = await running.http.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.json() == {"error": text, "code": "401"}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/jobs/init"), ("GET", "/jobs/abcdef012345")]
)
async def test_the_first_basic_request_registers_an_unknown_client(running, method, path) -> None:
    first = await running.http.request(method, path, headers=running.basic("new"))
    assert first.status_code != 401
    wrong = await running.http.request(method, path, headers=running.basic("new", "x" * 32))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "authentication failed")


async def test_a_short_key_registers_nobody(running) -> None:
    response = await running.post_job(client="new")
    assert response.status_code == 200
    headers = running.basic("short", "k" * 31)
    response = await running.http.post("/jobs/init", json={}, headers=headers)
    assert (response.status_code, response.json()["error"]) == (401, "unauthorized")


async def test_without_self_registration_an_unknown_client_is_refused(closed) -> None:
    response = await closed.post_job(client="new")
    assert response.status_code == 401


async def test_register_log_in_work_and_unregister(closed) -> None:
    admin = closed.basic("any", "a" * 32)
    body = {"clientID": "new", "authKey": KEY}
    registered = await closed.http.post("/register", json=body, headers=admin)
    assert registered.status_code == 201
    assert registered.json() == {"clientID": "new", "code": "201"}
    token = (await closed.http.post("/login", json=body)).json()["bearerToken"]
    bearer = {"Authorization": f"Bearer {token}"}
    config = {"Runners": ["mattermost/calls-recorder:v0.8.13"]}
    assert (await closed.http.post("/jobs/init", json=config, headers=bearer)).status_code == 200
    gone = await closed.http.post("/unregister", json={"clientID": "new"}, headers=bearer)
    assert gone.json() == {"code": "200"}
    response = await closed.http.post("/jobs/init", json=config, headers=bearer)
    assert response.json()["error"] == "authentication failed: token is invalid"


async def test_a_registered_client_is_known_after_a_restart(start) -> None:
    first = await start()
    await first.create_job(client="new")
    second = await start(API_SECURITY_ALLOWSELFREGISTRATION="false")
    assert (await second.post_job(client="new", call="two")).status_code == 200
