"""`GET /events` over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from offloader.api import events as events_module

RECORDER = "mattermost/calls-recorder:v0.8.13"


@pytest.fixture(params=[False, True], ids=["http", "https"])
async def served(serve, tmp_path, request) -> Any:
    async with serve(tmp_path, tls=request.param) as one:
        await one.http.post("/jobs/init", json={}, headers=one.basic("plugin"))
        yield one


async def create(served: Any, client: str = "plugin") -> str:
    body = {"type": "recording", "runner": RECORDER, "max_duration_sec": 60}
    response = await served.http.post("/jobs", json=body, headers=served.basic(client))
    return str(response.json()["id"])


async def next_event(lines: Any) -> tuple[str, Any]:
    """Name and data of the next event; comments are passed over."""
    name = ""
    async with asyncio.timeout(25):
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return name, json.loads(line.removeprefix("data: "))
    return "", None


async def test_events_tell_what_lives_and_then_every_change_of_the_clients_own_jobs(served) -> None:
    first = await create(served)
    async with served.http.stream("GET", "/events", headers=served.basic("plugin")) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = response.aiter_lines()
        name, job = await next_event(lines)
        assert (name, job["id"], job["state"]) == ("job", first, "starting")
        await create(served, client="other")
        second = await create(served)
        served.backend.exit(second, 3)
        await served.check()
        seen = []
        while ("finished", second) not in seen:
            name, job = await next_event(lines)
            seen.append((job["state"], job["id"]))
        assert next(state for state, job_id in seen if job_id == second) == "pending"
        assert {job_id for _, job_id in seen} <= {first, second}
        assert "hidden" not in json.dumps(job)


async def test_events_end_with_the_service(served) -> None:
    async with served.http.stream("GET", "/events", headers=served.basic("plugin")) as response:
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith(":")
        served.offloader.events.close()
        assert await next_event(lines) == ("end", {})
        assert [line async for line in lines if line] == []
    refused = await served.http.get("/events", headers=served.basic("plugin"))
    assert (refused.status_code, refused.json()["code"]) == (503, "503")


async def test_a_quiet_stream_has_a_heartbeat(served, monkeypatch) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT_S", 0.05)
    async with served.http.stream("GET", "/events", headers=served.basic("plugin")) as response:
        comments = [line async for _, line in _some(response.aiter_lines(), 8) if line]
    assert comments[1:] == [": still here"] * (len(comments) - 1)
    assert len(comments) > 2


async def test_an_address_with_many_streams_is_refused_another_one_and_nothing_else(
    served, monkeypatch
) -> None:
    monkeypatch.setattr("offloader.events.MOST_OF_ONE_SOURCE", 2)
    async with contextlib.AsyncExitStack() as stack:
        open_streams = []
        for client in ("one", "two"):
            await create(served, client=client)
            stream = served.http.stream("GET", "/events", headers=served.basic(client))
            response = await stack.enter_async_context(stream)
            open_streams.append(response.aiter_lines())
            await anext(open_streams[-1])
        refused = served.http.stream("GET", "/events", headers=served.basic("plugin"))
        assert (await stack.enter_async_context(refused)).status_code == 429
        assert (await served.http.get("/version")).status_code == 200


async def test_a_listener_that_leaves_is_forgotten(served) -> None:
    events = served.offloader.events
    async with served.http.stream("GET", "/events", headers=served.basic("plugin")) as response:
        await anext(response.aiter_lines())
        assert len(events._listeners) == 1
    async with asyncio.timeout(25):
        while events._listeners:
            await asyncio.sleep(0.01)


async def _some(lines: Any, count: int) -> Any:
    for number in range(count):
        yield number, await anext(lines)
