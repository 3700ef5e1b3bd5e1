"""Request IDs, the access log, and what never gets into it."""

from __future__ import annotations

import pytest
import structlog

SECRETS = ("hidden-token", "k" * 32, "s3cret-query")


@pytest.fixture
def logged() -> list[dict[str, object]]:
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as entries:
        yield entries


def requests(logged: list[dict[str, object]]) -> list[dict[str, object]]:
    return [entry for entry in logged if entry["event"] == "http.request"]


@pytest.mark.parametrize("given", ["abc-123", "9f.x~_", "x" * 64])
async def test_a_request_keeps_the_id_it_came_with(running, given: str) -> None:
    response = await running.http.get("/healthz", headers={"X-Request-Id": given})
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 65, "ä", "{}"])
async def test_a_request_without_a_harmless_id_gets_one(running, given) -> None:
    headers = [] if given is None else [(b"X-Request-Id", given.encode())]
    ids = set()
    for path in ("/healthz", "/nothing", "/jobs"):
        ids.add((await running.http.get(path, headers=headers)).headers["x-request-id"])
    assert len(ids) == 3
    assert all(len(made) == 16 for made in ids)


async def test_every_line_of_a_request_has_its_id(running, logged) -> None:
    headers = running.basic("plugin") | {"X-Request-Id": "mine"}
    body = {"type": "recording", "runner": "mattermost/calls-recorder:v0.8.13"}
    await running.http.post("/jobs", json=body | {"max_duration_sec": 60}, headers=headers)
    launched = next(entry for entry in logged if entry["event"] == "job.launched")
    (line,) = requests(logged)
    assert launched["request_id"] == line["request_id"] == "mine"
    assert (line["method"], line["route"], line["status"]) == ("POST", "/jobs", 200)
    assert line["duration_s"] >= 0


async def test_no_header_query_or_body_is_logged(running, logged) -> None:
    job_id = await running.create_job()
    headers = running.basic("plugin") | {"Cookie": "s3cret-query"}
    for path in (f"/jobs/{job_id}?auth_token=s3cret-query", "/nothing?x=s3cret-query"):
        await running.http.get(path, headers=headers)
    login = {"clientID": "plugin", "authKey": "k" * 32}
    await running.http.post("/login", json=login)
    await running.http.post("/login", content=b'{"authKey":"s3cret-query"')
    await running.http.post(
        f"/jobs/{job_id}/republish", json={"auth_token": "s3cret-query"}, headers=headers
    )
    assert len(requests(logged)) == 6
    for secret in SECRETS:
        assert secret not in repr(logged)


async def test_what_monitors_ask_is_not_worth_a_line_unless_it_fails(running, logged) -> None:
    for path in ("/version", "/healthz", "/readyz", "/metrics"):
        await running.http.get(path)
    assert {entry["log_level"] for entry in requests(logged)} == {"debug"}
    running.backend.unusable = "gone"
    await running.http.get("/readyz")
    assert requests(logged)[-1]["log_level"] == "info"


async def test_a_flood_of_strangers_is_told_so_often_and_summed_up_but_never_who_is_known(
    running, logged
) -> None:
    job_id = await running.create_job()
    logged.clear()
    for number in range(100):
        await running.http.get(f"/nothing/{number}")
        await running.http.get(f"/jobs/{job_id}")
    assert len(requests(logged)) == 30
    for _ in range(50):
        await running.http.get(f"/jobs/{job_id}", headers=running.basic("plugin"))
    assert [line["status"] for line in requests(logged)[30:]] == [200] * 50


async def test_a_path_of_any_length_and_form_is_cut(running, logged) -> None:
    await running.http.get("/" + "x" * 5000)
    await running.http.get("/a%0Ab%00c")
    assert all(len(str(entry["path"])) <= 120 for entry in requests(logged))
