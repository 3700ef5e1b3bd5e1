"""Two services on one PostgreSQL and one Docker Engine: containers outlive the service that started them."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import docker
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

TAKE_OVER_S = 15.0
DEADLINE_S = 25
SCRIPT = "trap 'echo told to stop; exit 0' TERM; echo ready; while true; do sleep 0.05; done"


@dataclass
class Site:
    """Both services, and what lies behind them."""

    one: Any
    two: Any
    database: str
    instance: str
    engine: docker.APIClient

    async def create(self, call_id: str, *, max_duration_s: int = 600) -> str:
        """A job of the first service, in a container that runs."""
        job_id: str = await self.one.create(
            type="recording",
            runner="mattermost/calls-recorder:v0.8.13",
            max_duration_sec=max_duration_s,
            input_data={"call_id": call_id, "post_id": "p", "auth_token": "hidden-token"},
        )
        async with asyncio.timeout(25):
            while (await self.one.details(job_id))["state"] != "running":
                await asyncio.sleep(0.1)
        return job_id

    async def owners(self, job_ids: Sequence[str]) -> Mapping[str, str | None]:
        """Who watches over which job, by the store."""
        connection = await asyncpg.connect(self.database)
        try:
            query = "SELECT id, owner, host FROM jobs WHERE id = ANY($1)"
            rows = await connection.fetch(query, list(job_ids))
        finally:
            await connection.close()
        assert {row["host"] for row in rows} == {f"engine {self.engine.info()['ID']}"}
        return {row["id"]: row["owner"] for row in rows}

    def container(self, job_id: str) -> dict[str, Any]:
        details: dict[str, Any] = self.engine.inspect_container(f"calls-recorder-{job_id}")
        return details

    def clean_up(self) -> None:
        filters = {"label": [f"calls-offloader.instance={self.instance}"]}
        for entry in self.engine.containers(all=True, filters=filters):
            self.engine.remove_container(entry["Id"], force=True)
        for volume in self.engine.volumes(filters=filters)["Volumes"] or []:
            self.engine.remove_volume(volume["Name"])


@pytest.fixture
async def site(postgres: Any, tiny_images: Any, start_replica: Any) -> AsyncIterator[Site]:
    image = tiny_images.image("/bin/sh", "-c", SCRIPT, own=True)
    instance = f"{tiny_images.run_id}-{secrets.token_hex(4)}"
    database = postgres.new_database()
    environ = {
        "database": database,
        "JOBS_APITYPE": "docker",
        "JOBS_DOCKER_INSTANCE": instance,
        "JOBS_DOCKER_PULLPOLICY": "never",
        "JOBS_RUNNERIMAGES": json.dumps({"*": image}),
        "JOBS_MAXCONCURRENTJOBS": "3",
    }
    one, two = await asyncio.gather(*(start_replica(**environ) for _ in range(2)))
    made = Site(one, two, database, instance, tiny_images.client)
    yield made
    made.clean_up()


async def test_the_survivor_of_a_kill_takes_the_containers_over_and_keeps_their_deadlines(
    site: Site,
) -> None:
    asked_s = time.monotonic()
    limited = await site.create("limited", max_duration_s=DEADLINE_S)
    stopped = await site.create("stopped")
    wiped = await site.create("wiped")
    jobs = (limited, stopped, wiped)
    before = {job_id: site.container(job_id) for job_id in jobs}
    first = await site.owners(jobs)
    assert len(set(first.values())) == 1
    assert None not in first.values()

    await site.one.end(signal.SIGKILL)
    killed_s = time.monotonic()
    async with asyncio.timeout(TAKE_OVER_S):
        while not set(first.values()).isdisjoint((await site.owners(jobs)).values()):
            await asyncio.sleep(0.1)
    took_s = time.monotonic() - killed_s
    assert len(set((await site.owners(jobs)).values())) == 1
    assert took_s < TAKE_OVER_S
    for job_id in jobs:
        now = site.container(job_id)
        assert (now["Id"], now["State"]["StartedAt"]) == (
            *(before[job_id]["Id"], before[job_id]["State"]["StartedAt"]),
        ), "the very container runs on"
        assert now["State"]["Running"]
        assert (await site.two.details(job_id))["state"] == "running"

    answer = await site.two.http.post(f"/jobs/{stopped}/stop")
    assert answer.status_code == 202
    ended = await site.two.finished(stopped)
    assert (ended["stop_reason"], ended["exit_code"], ended["unpublished"]) == (
        *("requested", 0, False),
    )
    assert "told to stop" in (await site.two.http.get(f"/jobs/{stopped}/logs")).text

    # What a lost engine would look like: nothing of the job is there any more.
    site.engine.remove_container(site.container(wiped)["Id"], force=True)
    site.engine.remove_volume(f"calls-recorder-{wiped}")
    lost = await site.two.finished(wiped)
    assert (lost["stop_reason"], lost["exit_code"]) == ("lost", None)
    assert "its container is gone" in lost["detail"]

    over = await site.two.finished(limited)
    assert (over["stop_reason"], over["exit_code"]) == ("max_duration", 0)
    ran_s = (over["stop_at"] - over["start_at"]) / 1000
    assert DEADLINE_S <= ran_s <= DEADLINE_S + 3
    assert time.monotonic() - asked_s >= DEADLINE_S
