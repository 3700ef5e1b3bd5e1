"""A worker whose jobs are containers of a real engine: they outlive it, and the next one has them."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from testbed.fleet import SCRIPT, Fleet

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(150)]

AT_ONCE_S = 15.0
"""The end of a worker that has nothing to wait for."""


@pytest.fixture
async def in_containers(tiny_images: Any) -> AsyncIterator[Mapping[str, str]]:
    """What makes a worker run `SCRIPT` in containers."""
    instance = f"{tiny_images.run_id}-{secrets.token_hex(4)}"
    yield {
        "WORKER_APITYPE": "docker",
        "JOBS_DOCKER_INSTANCE": instance,
        "JOBS_DOCKER_PULLPOLICY": "never",
        "JOBS_RUNNERIMAGES": json.dumps({"*": tiny_images.image("/bin/sh", "-c", SCRIPT)}),
    }
    engine, filters = tiny_images.client, {"label": [f"calls-offloader.instance={instance}"]}
    for entry in engine.containers(all=True, filters=filters):
        engine.remove_container(entry["Id"], force=True)
    for volume in engine.volumes(filters=filters)["Volumes"] or []:
        engine.remove_volume(volume["Name"])


async def test_a_container_outlives_its_worker_and_is_stopped_through_the_next_one(
    fleet: tuple[Fleet, Any], tiny_images: Any, in_containers: Mapping[str, str]
) -> None:
    hosts, _ = fleet
    service = await hosts.start_service()
    worker = await hosts.start_worker("one", **in_containers)
    await service.knows_places(1)
    job_id = await service.create("a")
    await service.in_state(job_id, "running")
    container = f"calls-recorder-{job_id}"

    await worker.terminate()
    assert await worker.ended(limit_s=AT_ONCE_S) == 0
    assert tiny_images.client.inspect_container(container)["State"]["Running"]

    port = int(worker.url.rpartition(":")[2])
    await hosts.start_worker("one", port=port, **in_containers)
    await service.knows_places(1)
    assert (await service.details(job_id))["state"] == "running"
    (await service.http.post(f"/jobs/{job_id}/stop")).raise_for_status()
    found = await service.in_state(job_id, "finished")
    assert (found["stop_reason"], found["exit_code"]) == ("requested", 0)
    log = (await service.http.get(f"/jobs/{job_id}/logs")).text
    assert log.splitlines() == ["ready", "told to stop"]
