"""At the plugin's start nodes pull the jobs' images, as many as the admin says, and nothing of it stays."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog

from offloader.backends.kubernetes import prepull as module
from offloader.backends.kubernetes.prepull import PULL_LABEL, pull_manifest
from offloader.errors import BackendError
from offloader.models import JobType

RUNNERS = ["mattermost/calls-recorder:v0.8.13", "mattermost/calls-transcriber:v0.7.2"]
TEMPLATE = {
    "transcribing": {
        "spec": {
            "nodeSelector": {"gpu": "true"},
            "runtimeClassName": "nvidia",
            "imagePullSecrets": [{"name": "regcred"}],
            "affinity": {"nodeAffinity": {}, "podAffinity": {"x": []}},
            "hostNetwork": True,
            "containers": [{"name": "job", "resources": {"limits": {"nvidia.com/gpu": 1}}}],
        }
    }
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY_S", 0.05)


@pytest.fixture
def made(cluster: Any) -> list[dict[str, Any]]:
    """The Jobs and pods that were made for pulls."""
    seen: list[dict[str, Any]] = []

    def changed(event: Any) -> None:
        if event.kind == "ADDED" and PULL_LABEL in event.thing["metadata"].get("labels", {}):
            seen.append(event.thing)

    cluster.objects.observers.append(changed)
    return seen


def _pods(made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [thing for thing in made if thing["kind"] == "Pod"]


async def _nothing_left(cluster: Any) -> None:
    async with asyncio.timeout(10):
        while any(
            PULL_LABEL in thing["metadata"].get("labels", {})
            for plural in ("jobs", "pods")
            for thing in cluster.objects.all(plural)
        ):
            await asyncio.sleep(0.02)


async def test_without_a_number_of_nodes_nothing_is_pulled(services: Any, made: Any) -> None:
    await services.backend().prepare(RUNNERS)
    assert made == []


async def test_every_node_pulls_every_image_and_nothing_stays(services: Any, made: Any) -> None:
    images = json.dumps({f"*calls-{p}:*": f"registry/{p}:v1" for p in ("recorder", "transcriber")})
    backend = services.backend(JOBS_KUBERNETES_PREPULLNODES="3", JOBS_RUNNERIMAGES=images)
    await backend.prepare(RUNNERS)
    pulled = sorted(pod["spec"]["containers"][0]["image"] for pod in _pods(made))
    assert pulled == ["registry/recorder:v1"] * 3 + ["registry/transcriber:v1"] * 3
    await _nothing_left(services.cluster)
    assert await backend.adopt() == {}, "a pull is no job"


async def test_more_pods_than_nodes_are_left_waiting(services: Any, made: Any) -> None:
    backend = services.backend(JOBS_KUBERNETES_PREPULLNODES="5")
    with structlog.testing.capture_logs() as lines:
        await backend.prepare(RUNNERS[:1])
    assert len(_pods(made)) == 5
    assert [line["nodes"] for line in lines if line["event"] == "image.pulled"] == [3]
    await _nothing_left(services.cluster)


async def test_an_image_that_no_node_can_have_is_named(
    services: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)
    images = json.dumps({"*": "registry/missing:v1"})
    backend = services.backend(JOBS_KUBERNETES_PREPULLNODES="2", JOBS_RUNNERIMAGES=images)
    with pytest.raises(
        BackendError, match=r"registry/missing:v1: its image cannot be pulled \(Err"
    ):
        await backend.prepare(RUNNERS[:1])
    await _nothing_left(services.cluster)


async def test_a_pull_that_takes_long_goes_on_and_holds_nobody_up(
    services: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT_S", 0.3)
    monkeypatch.setattr(module, "_state", lambda _pod: "")
    backend = services.backend(JOBS_KUBERNETES_PREPULLNODES="1")
    with structlog.testing.capture_logs() as lines:
        await backend.prepare(RUNNERS[:1])
        await backend.prepare(RUNNERS[:1])
    assert [line["event"] for line in lines] == ["image.pulled_slowly"] * 2
    assert len(services.cluster.objects.all("jobs")) == 1, "a second wish joins the first"


def test_pods_go_where_jobs_go_and_take_nothing_of_what_those_take(make_options: Any) -> None:
    options = make_options(
        JOBS_KUBERNETES_PREPULLNODES="4", JOBS_KUBERNETES_PODTEMPLATE=json.dumps(TEMPLATE)
    )
    job = pull_manifest(options, JobType.TRANSCRIBING, "registry/transcriber:v1")
    assert (job["spec"]["parallelism"], job["spec"]["completions"]) == (4, 4)
    spec = job["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"gpu": "true"}
    assert spec["imagePullSecrets"] == [{"name": "regcred"}]
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["tolerations"]
    assert set(spec["affinity"]) == {"nodeAffinity", "podAntiAffinity"}
    assert "hostNetwork" not in spec
    assert "nvidia.com/gpu" not in json.dumps(spec)
    assert "volumes" not in spec
    assert spec["automountServiceAccountToken"] is False
