"""`Idempotency-Key` over HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import text

from offloader.store.database import open_database

RECORDER = "mattermost/calls-recorder:v0.8.13"


async def ask(running, key: str, client: str = "plugin", **changes: Any) -> Any:
    body = {
        "type": "recording",
        "runner": RECORDER,
        "max_duration_sec": 60,
        "input_data": {"call_id": "c", "post_id": "p", "auth_token": "t"},
    } | changes
    headers = running.basic(client) | {"Idempotency-Key": key}
    return await running.http.post("/jobs", json=body, headers=headers)


async def test_a_repeat_is_answered_byte_for_byte(running) -> None:
    first = await ask(running, "k1")
    job_id = first.json()["id"]
    await running.check()
    running.backend.exit(job_id, 0)
    await running.check()
    running.clock.advance(seconds=60)
    again = await ask(running, "k1")
    assert (again.status_code, again.content) == (200, first.content)
    assert list(running.backend.launched) == [job_id]
    assert (await ask(running, "k2")).json()["id"] != job_id


async def test_requests_at_once_make_one_job(running) -> None:
    answers = await asyncio.gather(*(ask(running, "k1") for _ in range(10)))
    assert len({answer.content for answer in answers}) == 1
    assert len(running.backend.launched) == 1


async def test_another_body_under_the_same_key_is_422(running) -> None:
    await ask(running, "k1")
    response = await ask(running, "k1", max_duration_sec=61)
    assert (response.status_code, response.json()["code"]) == (422, "422")
    assert "different job" in response.json()["error"]
    assert (await ask(running, "k1", client="other")).status_code == 200
    secret = {"input_data": {"call_id": "c", "post_id": "p", "auth_token": "another"}}
    assert (await ask(running, "k1", **secret)).status_code == 422, "what is masked counts, too"


async def test_a_refused_job_may_be_tried_again_under_its_key(running) -> None:
    running.backend.refuse = "no such program"
    assert (await ask(running, "k1")).status_code == 500
    running.backend.refuse = ""
    assert (await ask(running, "k1")).status_code == 200


@pytest.mark.parametrize("key", ["", "a b", "ä".encode("latin-1").decode("latin-1"), "x" * 256])
async def test_a_key_of_no_use_is_400(running, key: str) -> None:
    body = {"type": "recording", "runner": RECORDER, "max_duration_sec": 60}
    headers = [
        *((name.encode(), value.encode()) for name, value in running.basic("plugin").items()),
        (b"Idempotency-Key", key.encode("latin-1")),
    ]
    response = await running.http.post("/jobs", json=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "400")
    assert "Idempotency-Key" in response.json()["error"]


async def test_the_answer_outlives_a_restart(start) -> None:
    first = await start()
    answer = await ask(first, "k1")
    second = await start(backend=first.backend, clock=first.clock)
    assert (await ask(second, "k1")).content == answer.content


async def test_a_repeat_finds_what_an_earlier_release_has_made(running, tmp_path) -> None:
    """It kept no hash of the body, and more of its values."""
    data = {"call_id": "c", "post_id": "p", "some_setting": "5"}
    first = await ask(running, "k1", input_data=data)
    database = await open_database(str(tmp_path / "store.db"))
    async with database.write() as connection:
        statement = text("UPDATE jobs SET wish_hash = '', input_data = :data")
        await connection.execute(statement, {"data": json.dumps(data)})
    await database.aclose()
    again = await ask(running, "k1", input_data=data)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    other = await ask(running, "k1", input_data=data, max_duration_sec=61)
    assert other.status_code == 422
