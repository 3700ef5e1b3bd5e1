"""The kubernetes backend's settings, and the double of the API with a backend on it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from foundation.clock import Clock
from offloader.backends.base import LaunchRequest, Observation, Phase
from offloader.backends.kubernetes.backend import KubernetesBackend
from offloader.backends.kubernetes.options import KubernetesOptions
from offloader.models import JobType, Workload
from offloader.settings import load_settings

MakeOptions = Callable[..., KubernetesOptions]


@pytest.fixture
def make_options(tmp_path: Path) -> MakeOptions:
    """`make_options(JOBS_KUBERNETES_X="…")`: as a service with that environment has them."""

    def make(**environ: str) -> KubernetesOptions:
        own = {
            "JOBS_APITYPE": "kubernetes",
            "STATE_DIRECTORY": str(tmp_path / "state"),
            "JOBS_RUNNERIMAGES": json.dumps({"*": "registry.example.com/calls:v1"}),
        }
        return KubernetesOptions.of(load_settings(Path("/nonexistent"), {**own, **environ}).jobs)

    return make


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[object]:
    from testbed.kubernetes.server import running_cluster  # big: only where it is used

    async with running_cluster(tmp_path / "cluster", second_s=0.2) as made:
        yield made


CLAIM = "recordings"


class Services:
    """Backends of services that share a cluster and its claim, as a script's jobs need them."""

    def __init__(self, cluster: Any, directory: Path, make_options: MakeOptions) -> None:
        self.cluster = cluster
        self.claim_dir: Path = cluster.kubelet.claim_dir(CLAIM)
        self._kubeconfig = str(cluster.kubeconfig(directory / "kubeconfig"))
        self._make_options = make_options
        self._made: list[KubernetesBackend] = []

    def backend(
        self, script: str = "true", *, clock: Clock | None = None, **environ: str
    ) -> KubernetesBackend:
        """Of a service that has just started; its jobs run `script`."""
        container = {"name": "job", "command": ["/bin/sh", "-c", script]}
        template = {"recording": {"spec": {"containers": [container]}}}
        own = {
            "KUBECONFIG": self._kubeconfig,
            "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME": CLAIM,
            "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR": str(self.claim_dir),
            "JOBS_KUBERNETES_PODTEMPLATE": json.dumps(template),
        }
        options = self._make_options(**{**own, **environ})
        backend = KubernetesBackend(options, environ={}, clock=clock)
        self._made.append(backend)
        return backend

    async def launch(self, backend: KubernetesBackend, *, max_duration_s: int = 3600) -> Workload:
        request = LaunchRequest(
            secrets.token_hex(6),
            JobType.RECORDING,
            "runner",
            {"auth_token": "sesame"},
            max_duration_s=max_duration_s,
        )
        return await backend.launch(request)

    async def until(
        self, backend: KubernetesBackend, workload: Workload, *phases: Phase, detail: str = ""
    ) -> Observation:
        async with asyncio.timeout(20):
            while True:
                seen = await backend.poll(workload)
                if seen.phase in phases and detail in seen.detail:
                    return seen
                await asyncio.sleep(0.02)

    async def ended(self, backend: KubernetesBackend, workload: Workload) -> Observation:
        return await self.until(backend, workload, Phase.EXITED, Phase.LOST)

    async def said(self, backend: KubernetesBackend, workload: Workload, text: str) -> str:
        """The log, as soon as it holds `text`."""
        async with asyncio.timeout(20):
            while text not in (log := await self.log(backend, workload)):
                await asyncio.sleep(0.02)
        return log

    async def log(self, backend: KubernetesBackend, workload: Workload) -> str:
        return b"".join([chunk async for chunk in backend.logs(workload)]).decode()

    async def aclose(self) -> None:
        for backend in self._made:
            await backend.aclose()


@pytest.fixture
async def services(
    cluster: Any, tmp_path: Path, make_options: MakeOptions
) -> AsyncIterator[Services]:
    made = Services(cluster, tmp_path, make_options)
    yield made
    await made.aclose()
