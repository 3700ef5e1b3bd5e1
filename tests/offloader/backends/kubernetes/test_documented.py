"""What a Kubernetes API, or what answers in its place, can say, held against docs/troubleshooting.md."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from offloader.backends.base import LaunchRequest
from offloader.backends.kubernetes import api, launching, mirror
from offloader.backends.kubernetes.backend import KubernetesBackend
from offloader.backends.kubernetes.connection import Connection
from offloader.backends.kubernetes.files import JobFolders
from offloader.backends.kubernetes.options import Reference
from offloader.errors import BackendError
from offloader.models import JobType

RECORDING = Reference("a" * 12, JobType.RECORDING, "registry.example.com/calls:v1")


@pytest.fixture
async def backend(make_options: Any) -> AsyncIterator[KubernetesBackend]:
    """One that has not asked its cluster for anything yet."""
    made = KubernetesBackend(make_options(), environ={})
    yield made
    await made.aclose()


@pytest.mark.documents("a-site-url-on-a-pods-loopback", "the-kubernetes-backend-is-closed")
async def test_launches_that_cannot_be(backend: KubernetesBackend, documented: Any) -> None:
    data = {"site_url": "http://localhost:8065"}
    with pytest.raises(BackendError) as refused:
        await backend.launch(LaunchRequest("a" * 12, JobType.RECORDING, "runner", data))
    documented("a-site-url-on-a-pods-loopback", str(refused.value))
    await backend.aclose()
    with pytest.raises(BackendError) as refused:
        await backend.launch(LaunchRequest("a" * 12, JobType.RECORDING, "runner", {}))
    documented("the-kubernetes-backend-is-closed", str(refused.value))


@pytest.mark.documents("something-works-on-its-files/2")
async def test_an_attempt_while_another_is_under_way(
    backend: KubernetesBackend, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any) -> None: ...

    async def earlier(*_: Any) -> list[Reference]:
        return [Reference("a" * 12, JobType.RECORDING, RECORDING.image, salvage=1)]

    view = SimpleNamespace(watched=nothing, job=nothing, has_ended=lambda _: False, aclose=nothing)
    monkeypatch.setattr(backend, "_view", view)
    monkeypatch.setattr(backend, "_attempts", earlier)
    workload = RECORDING.workload()
    with pytest.raises(BackendError) as refused:
        await backend.rescue(workload, job_type=JobType.RECORDING, result="r", variables={})
    documented("something-works-on-its-files/2", str(refused.value))


@pytest.mark.documents("nothing-of-it-is-there/3")
async def test_a_job_that_somebody_deleted(
    backend: KubernetesBackend, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any) -> None: ...

    monkeypatch.setattr(
        backend, "_view", SimpleNamespace(watched=nothing, job=nothing, aclose=nothing)
    )
    documented("nothing-of-it-is-there/3", (await backend.poll(RECORDING.workload())).detail)


class Answer:
    """What a proxy's login page is."""

    status = 200
    headers: Mapping[str, str] = MappingProxyType({})

    async def read(self) -> bytes:
        return b"<html>"

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(self, *_: object) -> None: ...


async def cut_into(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.documents(
    "something-else-answers-as-the-kubernetes-api",
    "something-else-answers-as-the-kubernetes-api/2",
    "something-else-answers-as-the-kubernetes-api/4",
)
async def test_answers_that_are_none_of_kubernetes(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = api.KubernetesApi(kubeconfig="/nonexistent", namespace="calls", environ={})

    async def send(*_: Any, **__: Any) -> Answer:
        return Answer()

    monkeypatch.setattr(asked, "_send", send)
    with pytest.raises(BackendError) as strange:
        await asked.get("/apis/batch/v1/jobs", "one")
    documented("something-else-answers-as-the-kubernetes-api", str(strange.value))
    monkeypatch.setattr(api, "_LONGEST_LINE_BYTES", 8)
    with pytest.raises(BackendError) as strange:
        [line async for line in api.lines(cut_into(b"x" * 5, b"x" * 5))]
    documented("something-else-answers-as-the-kubernetes-api/2", str(strange.value))
    with pytest.raises(BackendError) as strange:
        mirror.Mirror(asked, "pods", selector="")._event(b'{"type": "ADD')
    documented("something-else-answers-as-the-kubernetes-api/4", str(strange.value))


@pytest.mark.looptime
@pytest.mark.documents("no-answer-to-the-first-list")
async def test_a_server_that_never_answers(documented: Any) -> None:
    with pytest.raises(BackendError) as silent:
        await mirror.Mirror(None, "pods", selector="").require_fresh()  # type: ignore[arg-type]  # nobody asks it
    documented("no-answer-to-the-first-list", str(silent.value))


@pytest.mark.slow  # the official client's modules take their time
@pytest.mark.documents("certificates-of-kubernetes-that-cannot-be-read")
async def test_an_authority_that_is_no_certificate(documented: Any, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority": f"{tmp_path}/ca.pem"}
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    connection = Connection(str(tmp_path / "kubeconfig"), in_cluster=False, namespace="calls")
    with pytest.raises(BackendError) as unusable:
        await connection.open()
    documented("certificates-of-kubernetes-that-cannot-be-read", str(unusable.value))


@pytest.mark.documents("a-job-that-somebody-removed-at-its-launch")
async def test_a_job_that_somebody_removes_at_once(make_options: Any, documented: Any) -> None:
    class Api:
        async def create(self, _collection: str, body: Any, **_: Any) -> Any:
            return {**body, "metadata": {**body["metadata"], "uid": "1"}}

        async def patch(self, *_: Any) -> None: ...

        async def delete(self, *_: Any, **__: Any) -> None: ...

    with pytest.raises(BackendError) as removed:
        await launching.launch(
            Api(),  # type: ignore[arg-type]  # as much of it as a launch takes
            RECORDING,
            options=make_options(),
            variables={},
            ca=None,
            max_duration_s=60,
        )
    documented("a-job-that-somebody-removed-at-its-launch", str(removed.value))


@pytest.mark.documents("a-claim-that-cannot-be-listed")
async def test_a_claim_that_is_no_directory(
    make_options: Any, documented: Any, tmp_path: Path
) -> None:
    (tmp_path / "claim").touch()
    options = make_options(
        JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME="recordings",
        JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR=str(tmp_path / "claim"),
    )
    with pytest.raises(BackendError) as unusable:
        await JobFolders(options).names()
    documented("a-claim-that-cannot-be-listed", str(unusable.value))
