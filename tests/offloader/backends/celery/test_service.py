"""The service over the celery backend: what it says and does while its broker is away."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from offloader.app import running_offloader
from offloader.settings import load_settings

NOBODY = "redis://:hush@127.0.0.1:1/0"
PLUGIN = {"Authorization": "Basic " + base64.b64encode(b"plugin:" + b"k" * 32).decode()}
JOB = {
    "type": "recording",
    "runner": "mattermost/calls-recorder:v0.8.13",
    "input_data": {
        "site_url": "http://localhost:8065",
        "call_id": "8w8jorhr7j83uqr6y1st894hqe",
        "post_id": "udzdsg7dwidbzcidx5khrf8nee",
        "recording_id": "67t5u6cmtfbb7jug739d43xa9e",
        "auth_token": "qj75unbsef83ik9p7ueypb6iyw",
    },
    "max_duration_sec": 3600,
}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    settings = load_settings(
        tmp_path / "none.toml",
        {
            "STORE_DATASOURCE": f"{tmp_path}/store.db",
            "JOBS_APITYPE": "celery",
            "JOBS_CELERY_BROKERURL": NOBODY,
            "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        },
    )
    async with (
        running_offloader(settings, environ={}) as offloader,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(offloader.app), base_url="http://replica", headers=PLUGIN
        ) as client,
    ):
        yield client


async def test_without_a_broker_the_service_starts_and_names_it_in_time(http) -> None:
    async with asyncio.timeout(25):
        ready = await http.get("/readyz")
        answer = await http.post("/jobs", json=JOB)
        capacity = (await http.get("/capacity")).json()
    assert ready.status_code == 503
    assert "the celery backend cannot be used: the broker " in ready.json()["error"]
    assert answer.status_code == 500
    told = "failed to create recording job: what runs jobs cannot be reached"
    assert answer.json()["error"] == told, "people in the call read it"
    assert "hush" not in f"{ready.text}{answer.text}"
    assert (capacity["limit"], capacity["free"]) == (0, 0)


async def test_workers_claim_at_the_service_itself(http) -> None:
    answer = await http.post(f"/launches/{'a' * 12}/claim", json={"worker": "w", "url": "u"})
    assert answer.status_code == 401
