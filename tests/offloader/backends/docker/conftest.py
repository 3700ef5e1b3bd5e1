"""Options of the docker backend as the service's settings make them, and a backend on a real engine."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from offloader.backends.base import Backend, LaunchRequest, Observation, Phase
from offloader.backends.docker.backend import DockerBackend
from offloader.backends.docker.options import DockerOptions, Reference
from offloader.models import JobType, Workload
from offloader.settings import load_settings

TOKEN = "t" * 26


def _options(**environ: str) -> DockerOptions:
    return DockerOptions.of(load_settings(Path("/nonexistent"), environ).jobs)


@pytest.fixture
def options() -> Callable[..., DockerOptions]:
    """Options by environment variables of the service."""
    return _options


class Jobs:
    """Launches scripts in containers, whose names nobody else has."""

    def __init__(self, images: Any) -> None:
        self.images = images
        self.client = images.client
        self.instance = f"{images.run_id}-{secrets.token_hex(4)}"
        self._made: list[DockerBackend] = []
        self._launched: list[Workload] = []

    def backend(self, script: str = "true", *, own: bool = True, **environ: str) -> DockerBackend:
        image = self.images.image("/bin/sh", "-c", script, own=own)
        given = {
            "JOBS_DOCKER_INSTANCE": self.instance,
            "JOBS_DOCKER_PULLPOLICY": "never",
            "JOBS_RUNNERIMAGES": json.dumps({"*": image}),
        }
        backend = DockerBackend(_options(**(given | environ)), environ=self.images.environ)
        self._made.append(backend)
        return backend

    async def launch(
        self,
        backend: Backend,
        job_type: JobType = JobType.RECORDING,
        *,
        max_duration_s: int = 0,
        **input_data: Any,
    ) -> Workload:
        given = {"auth_token": TOKEN, "call_id": "c1"} | input_data
        request = LaunchRequest(secrets.token_hex(6), job_type, "runner", given, max_duration_s)
        workload = await backend.launch(request)
        self._launched.append(workload)
        return workload

    async def ended(self, backend: Backend, workload: Workload) -> Observation:
        async with asyncio.timeout(25):
            while (seen := await backend.poll(workload)).phase in (Phase.STARTING, Phase.RUNNING):
                await asyncio.sleep(0.02)
        return seen

    async def said(self, backend: Backend, workload: Workload, text: str = "") -> str:
        """The log, as soon as it holds `text`."""
        async with asyncio.timeout(25):
            while text not in (log := await self.log(backend, workload)):
                await asyncio.sleep(0.02)
        return log

    async def log(self, backend: Backend, workload: Workload) -> str:
        return b"".join([chunk async for chunk in backend.logs(workload)]).decode()

    def container(self, workload: Workload) -> str:
        return Reference.of(workload).container

    def inspect(self, workload: Workload) -> dict[str, Any]:
        details: dict[str, Any] = self.client.inspect_container(self.container(workload))
        return details

    async def clean_up(self) -> None:
        backend = self.backend()
        for workload in {
            *self._hashable(self._launched),
            *self._hashable((await backend.adopt()).values()),
        }:
            found = Workload("docker", json.loads(workload))
            await backend.stop(found, grace_s=0)
            await self.ended(backend, found)
            await backend.remove(found)
        for made in self._made:
            await made.aclose()

    @staticmethod
    def _hashable(workloads: Any) -> list[str]:
        return [json.dumps(dict(workload.reference), sort_keys=True) for workload in workloads]


@pytest.fixture
async def jobs(tiny_images: Any) -> AsyncIterator[Jobs]:
    """Real containers."""
    made = Jobs(tiny_images)
    yield made
    await made.clean_up()
