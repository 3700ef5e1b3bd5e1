"""A job belongs to a registration: whoever comes by the same name with another key is somebody else."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from clientauth.hashing import hash_key
from offloader.store.database import open_database

KEY, OTHER_KEY = "k" * 32, "o" * 32
ADMIN_KEY = "a" * 32
PLUGIN = {"Runners": ["mattermost/calls-recorder:v0.8.13"]}


@pytest.fixture
async def running(start: Any) -> Any:
    return await start(
        API_SECURITY_ENABLEADMIN="true",
        API_SECURITY_ADMINSECRETKEY=ADMIN_KEY,
        JOBS_MAXCONCURRENTJOBS="5",
    )


async def unregister(running: Any, key: str = KEY) -> None:
    body, headers = {"clientID": "plugin"}, running.basic("plugin", key)
    assert (await running.http.post("/unregister", json=body, headers=headers)).status_code == 200


async def seen(running: Any, key: str) -> list[str]:
    answer = await running.http.get("/jobs", headers=running.basic("plugin", key))
    assert answer.status_code == 200
    return [job["id"] for job in answer.json()["jobs"]]


async def as_admin(running: Any, action: str, **body: str) -> Any:
    headers = running.basic("admin", ADMIN_KEY)
    return await running.http.post(f"/admin/clients/{action}", json=body, headers=headers)


async def test_who_registers_an_old_name_with_another_key_gets_nothing_of_its_jobs(
    running: Any,
) -> None:
    job_id = await running.create_job()
    await unregister(running)
    stranger = running.basic("plugin", OTHER_KEY)
    assert (await running.http.post("/jobs/init", json=PLUGIN, headers=stranger)).status_code == 200
    assert await seen(running, OTHER_KEY) == []
    for method, path in (
        ("GET", ""),
        ("GET", "/logs?follow=1"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/r/recording.mp4"),
        ("POST", "/stop"),
        ("POST", "/republish"),
        ("POST", "/retranscribe"),
        ("DELETE", ""),
    ):
        answer = await running.http.request(method, f"/jobs/{job_id}{path}", headers=stranger)
        assert answer.status_code == 404, (method, path)
    login = await running.http.post("/login", json={"clientID": "plugin", "authKey": OTHER_KEY})
    bearer = {"Authorization": f"Bearer {login.json()['bearerToken']}"}
    assert (await running.http.get(f"/jobs/{job_id}", headers=bearer)).status_code == 404
    # It works on as a client of its own, which is what a plugin does that has lost its key.
    body = {"type": "recording", "runner": PLUGIN["Runners"][0], "max_duration_sec": 60}
    own = (await running.http.post("/jobs", json=body, headers=stranger)).json()["id"]
    assert await seen(running, OTHER_KEY) == [own]


async def test_who_registers_again_with_the_same_key_finds_its_jobs(running: Any) -> None:
    job_id = await running.create_job()
    await unregister(running)
    assert (await running.get_job(job_id))["id"] == job_id
    assert await seen(running, KEY) == [job_id]


async def test_the_admin_gives_a_new_registration_what_an_old_one_left(running: Any) -> None:
    job_id = await running.create_job()
    await unregister(running)
    await running.http.post("/jobs/init", json=PLUGIN, headers=running.basic("plugin", OTHER_KEY))
    adopted = await as_admin(running, "adopt", clientID="plugin")
    assert adopted.json() == {"clientID": "plugin", "jobs": 1}
    assert await seen(running, OTHER_KEY) == [job_id]
    assert (await as_admin(running, "adopt", clientID="plugin")).json()["jobs"] == 0
    await unregister(running, OTHER_KEY)
    assert (await running.post_job(call="two")).status_code == 200
    assert job_id not in await seen(running, KEY), "the old key has lost them"
    nobody = await as_admin(running, "adopt", clientID="nobody")
    assert (nobody.status_code, nobody.json()["code"]) == (404, "404")


async def test_another_key_from_the_admin_changes_nothing_of_what_a_client_owns(
    running: Any,
) -> None:
    job_id = await running.create_job()
    rotated = await as_admin(running, "rotate", clientID="plugin", authKey=OTHER_KEY)
    assert rotated.status_code == 200
    assert await seen(running, OTHER_KEY) == [job_id]
    await unregister(running, OTHER_KEY)
    assert (await running.post_job(call="two")).status_code == 200
    assert job_id not in await seen(running, KEY), "the old key is worth nothing any more"


async def test_a_token_heals_and_serves_only_jobs_of_its_own_registration(running: Any) -> None:
    site = {"call_id": "c", "post_id": "p", "site_url": "https://chat.example.com"}
    job_id = await running.create_job(input_data=site | {"auth_token": "theirs"})
    await running.check()
    running.backend.exit(job_id, 1, unpublished=True)
    await running.check()
    await unregister(running)
    body = {"type": "recording", "runner": PLUGIN["Runners"][0], "max_duration_sec": 60}
    body["input_data"] = site | {"auth_token": "the stranger's"}
    stranger = running.basic("plugin", OTHER_KEY)
    assert (await running.http.post("/jobs", json=body, headers=stranger)).status_code == 200
    running.clock.advance(seconds=31)
    await running.check()
    [(_, variables)] = running.backend.salvaged
    assert variables["AUTH_TOKEN"] == "theirs"


async def test_an_old_name_s_idempotency_key_is_not_answered_with_another_s_job(
    running: Any,
) -> None:
    body = {"type": "recording", "runner": PLUGIN["Runners"][0], "max_duration_sec": 60}
    first, second = (running.basic("plugin", key) for key in (KEY, OTHER_KEY))
    theirs = await running.http.post("/jobs", json=body, headers=first | {"Idempotency-Key": "k"})
    await unregister(running)
    own = await running.http.post("/jobs", json=body, headers=second | {"Idempotency-Key": "k"})
    assert (own.status_code, own.json()["id"] != theirs.json()["id"]) == (200, True)
    again = await running.http.post("/jobs", json=body, headers=second | {"Idempotency-Key": "k"})
    assert again.json()["id"] == own.json()["id"]


async def test_jobs_from_before_there_were_marks_stay_their_client_s(
    start: Any, tmp_path: Any
) -> None:
    first = await start()
    job_id = await first.create_job()
    await first.http.aclose()
    database = await open_database(str(tmp_path / "store.db"))
    async with database.write() as connection:
        for table in ("clients", "jobs", "job_secrets"):
            await connection.execute(text(f"UPDATE {table} SET registration = ''"))
    await database.aclose()
    second = await start(backend=first.backend, clock=first.clock)
    assert (await second.get_job(job_id))["id"] == job_id
    await unregister(second)
    stranger = second.basic("plugin", OTHER_KEY)
    assert (await second.http.get(f"/jobs/{job_id}", headers=stranger)).status_code == 404


async def test_what_an_earlier_release_beside_this_one_takes_is_its_client_s_and_no_later_one_s(
    running: Any, tmp_path: Any
) -> None:
    """During an upgrade, and after a way back: it leaves out what it does not know."""
    job_id = await running.create_job()
    site = {"call_id": "c", "post_id": "p", "site_url": "https://chat.example.com"}
    database = await open_database(str(tmp_path / "store.db"))

    async def marks(value: str | None = None) -> list[str]:
        async with database.write() as connection:
            if value is not None:
                await connection.execute(text("UPDATE jobs SET registration = :m"), {"m": value})
            query = text("SELECT registration FROM jobs ORDER BY created_at_ms")
            return list((await connection.execute(query)).scalars())

    [mark] = await marks()
    await marks("")
    assert (await running.get_job(job_id))["id"] == job_id
    assert await seen(running, KEY) == [job_id]
    await running.create_job(input_data=site | {"auth_token": "fresh"})
    assert set(await marks()) == {mark}, "what waited for that token finds it"
    await marks("")
    await unregister(running)
    stranger = running.basic("plugin", OTHER_KEY)
    assert (await running.http.post("/jobs/init", json=PLUGIN, headers=stranger)).status_code == 200
    assert await seen(running, OTHER_KEY) == []
    assert (await as_admin(running, "adopt", clientID="plugin")).json()["jobs"] == 2
    await database.aclose()


async def test_after_another_key_from_an_earlier_release_the_old_one_counts_no_more(
    running: Any, tmp_path: Any
) -> None:
    """It knows no marks, and leaves the one of the old key where it is."""
    job_id = await running.create_job()
    database = await open_database(str(tmp_path / "store.db"))
    async with database.write() as connection:
        rotated = text("UPDATE clients SET key_hash = :hash")
        await connection.execute(rotated, {"hash": hash_key(OTHER_KEY)})
    await database.aclose()
    running.clock.advance(seconds=2)
    answer = await running.http.get("/jobs", headers=running.basic("plugin", KEY))
    assert answer.status_code == 401
    assert await seen(running, OTHER_KEY) == [job_id]
