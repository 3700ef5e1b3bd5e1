"""The job service with this backend, from the plugin's request to the log of a job whose pod is gone."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from foundation.copies.journal import Change, Entry, key_of
from foundation.copies.stores import DirectoryStore
from offloader.app import running_offloader
from offloader.copies import JobCopies
from offloader.settings import load_settings


@asynccontextmanager
async def job_in_its_call(
    cluster: Any, tmp_path: Path, script: str, *, recording_id: str = "", **environ: str
) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """The service, a client of it, and the path of a job that runs `script` and has said `ready`."""
    container = {"name": "job", "command": ["/bin/sh", "-c", script]}
    environ |= {
        "JOBS_APITYPE": "kubernetes",
        "KUBECONFIG": str(cluster.kubeconfig(tmp_path / "kubeconfig")),
        "JOBS_KUBERNETES_PODTEMPLATE": json.dumps(
            {"recording": {"spec": {"containers": [container]}}}
        ),
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "STORE_DATASOURCE": str(tmp_path / "store.db"),
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
    }
    token = base64.b64encode(b"plugin:" + b"k" * 32).decode()
    site = {"site_url": "http://chat.example.com", "auth_token": "sesame"}
    job = {
        "type": "recording",
        "runner": "mattermost/calls-recorder:v0.8.13",
        "max_duration_sec": 600,
        "input_data": site | ({"recording_id": recording_id} if recording_id else {}),
    }
    settings = load_settings(tmp_path / "none.toml", environ)
    async with running_offloader(settings, environ=environ) as offloader:
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(offloader.app),
            base_url="http://offloader",
            headers={"Authorization": f"Basic {token}"},
        )
        async with client, asyncio.timeout(25):
            answer = await client.post("/jobs", json=job)
            assert answer.status_code == 200, answer.text
            path = f"/jobs/{answer.json()['id']}"
            while "ready" not in (await client.get(f"{path}/logs")).text:
                await asyncio.sleep(0.05)
            yield client, path


@pytest.mark.slow
async def test_a_job_is_created_stopped_and_its_log_read_through_the_service(
    cluster, tmp_path
) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.02; done"
    async with job_in_its_call(cluster, tmp_path, script) as (client, path):
        assert (await client.post(f"{path}/stop")).status_code == 202
        while not (await client.get(path)).json().get("stop_at"):
            await asyncio.sleep(0.05)
        assert (await client.get(f"{path}/logs")).text == "ready\nbye\n"
        artifacts = await client.get(f"{path}/artifacts")
        assert "emptyDir" in artifacts.text, artifacts.status_code


@pytest.mark.slow
async def test_a_job_whose_node_dies_is_rescued_from_its_copy_by_another_pod(
    cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On emptyDirs: the pod that rescues has nothing of the first one's but the copy."""
    result, store = "r" * 26, DirectoryStore(tmp_path / "bucket")
    monkeypatch.setattr(JobCopies, "of", lambda _network: JobCopies(store))
    monkeypatch.setattr("offloader.outbox.FIRST_WAIT", timedelta(0))
    log = b'{"event": "started"}\n'
    copied = [Change("job.json", 0, b"{}"), Change("job.log", 0, log)]
    await store.put(key_of(result, 1), Entry(copied).encode())
    script = f"""if [ "$0" = rescue ]; then echo "rescued $1 by $AUTH_TOKEN"
    rm -r {tmp_path}/bucket/$1; exit 0; fi; echo ready; sleep 600"""
    kept = {"recording_id": result, "JOBS_COPIESURL": "s3://copies/calls"}
    async with job_in_its_call(cluster, tmp_path, script, **kept) as (client, path):
        (pod,) = cluster.objects.all("pods")
        cluster.kubelet.dead = True
        cluster.kubelet.kill(pod["metadata"]["name"])
        cluster.objects.remove("pods", pod)
        cluster.kubelet.dead = False
        while True:
            details = (await client.get(f"{path}?details=1")).json()
            if (details.get("publication") or {}).get("state") == "published":
                break
            await asyncio.sleep(0.1)
        assert (details["stop_reason"], details["unpublished"]) == ("lost", False)
