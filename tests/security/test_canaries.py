"""A token, names and sentences go through a whole call, and are found nowhere but in what was published.

On processes and in containers: test_hostile_client.py.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from testbed.canary_places import look_at_files
from testbed.canary_visit import CanaryVisit
from testbed.demo.options import BUNDLED_MODEL, MODEL_SIZES
from testbed.kubernetes.server import running_cluster

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(200)]

OURS = "registry.example.com/calls-native-offloader/calls-{}:v1"
PROGRAMS = {"recording": "recorder", "transcribing": "transcriber"}


def own_address() -> str:
    """Of this machine, other than loopback: what pods would reach a site under. Nothing is sent."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            probe.connect(("172.17.0.1", 9))
        return str(probe.getsockname()[0])


def program(job_type: str) -> dict[str, object]:
    """A pod template by which the double runs the job's program of this checkout."""
    command = [sys.executable, "-m", f"jobs.{PROGRAMS[job_type]}"]
    return {"spec": {"containers": [{"name": "job", "command": command}]}}


async def test_on_kubernetes_the_api_holds_the_token_in_a_secret_alone(
    tmp_path: Path, record_call, traces, postgres
) -> None:
    async with running_cluster(tmp_path / "cluster") as cluster:
        models = cluster.kubelet.claim_dir("models")
        models.mkdir(parents=True)
        for size in MODEL_SIZES:
            (models / size).symlink_to(BUNDLED_MODEL)
        database = postgres.new_database()
        environ = {
            "JOBS_APITYPE": "kubernetes",
            "KUBECONFIG": str(cluster.kubeconfig(tmp_path / "kubeconfig")),
            "JOBS_KUBERNETES_MODELSCLAIMNAME": "models",
            "JOBS_KUBERNETES_PODTEMPLATE": json.dumps({kind: program(kind) for kind in PROGRAMS}),
            "JOBS_RUNNERIMAGES": json.dumps({"*": OURS.format("recorder")}),
            "STORE_DATASOURCE": database,
            "STATE_DIRECTORY": str(tmp_path / "run" / "work"),
        }
        async with CanaryVisit(tmp_path, traces, **environ) as canaries:
            await record_call("process", canaries, host=own_address())
            for plural in ("jobs", "pods"):
                for thing in cluster.objects.all(plural):
                    canaries.search.look(f"kubernetes: {plural}", json.dumps(thing))
            for log in cluster.kubelet.logs.values():
                canaries.search.look("kubernetes: pod logs", log.content())
    canaries.finish(tmp_path / "run")
    look_at_files(canaries.search, "store", postgres.directory, without=())
    assert canaries.search.found == []


async def test_on_celery_the_broker_and_the_workers_tell_nothing(
    tmp_path: Path, record_call, traces
) -> None:
    async with CanaryVisit(tmp_path, traces, crash=True) as canaries:
        await record_call("celery", canaries)
    canaries.finish(tmp_path / "run")
    assert canaries.search.places["broker"] > 0
    assert canaries.search.found == []
