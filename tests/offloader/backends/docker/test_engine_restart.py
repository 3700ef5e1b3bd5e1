"""The engine goes away and comes back: nothing recorded is lost, and the service knows what happened."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from offloader.backends.base import LaunchRequest, Phase
from offloader.backends.docker.backend import DockerBackend
from offloader.errors import BackendError
from offloader.models import JobType

# The engine takes its time to stop.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SAVES_WHEN_TOLD = (
    "mkdir -p /data/r1; echo {} > /data/r1/job.json; "
    "trap 'printf film > /data/r1/a.mp4; exit 1' TERM; echo ready; while true; do sleep 0.05; done"
)


class PrivateEngine:
    """A dockerd beside the usual one, with everything of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.address = f"unix://{directory}/sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # In a network of its own: without a bridge it would take away the other engine's.
        command = ["unshare", "--net", "dockerd", "--host", self.address]
        command += ["--bridge=none", "--iptables=false"]
        command += ["--data-root", str(self._directory / "data")]
        command += ["--exec-root", str(self._directory / "exec")]
        command += ["--pidfile", str(self._directory / "pid")]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    async def ready(self, backend: DockerBackend) -> None:
        async with asyncio.timeout(40):
            while True:
                try:
                    return await backend.check_usable()
                except BackendError:
                    await asyncio.sleep(0.2)


@pytest.fixture
def private_engine(
    tiny_images: Any,
    tmp_path_factory: pytest.TempPathFactory,
    engine_missing: Callable[[str, str], None],
) -> Iterator[PrivateEngine]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        engine_missing("docker", "only root can start an engine of its own")
    directory = tmp_path_factory.mktemp("engine")
    engine = PrivateEngine(directory)
    engine.start()
    yield engine
    engine.stop()
    shutil.rmtree(directory, ignore_errors=True)


async def test_an_engine_that_stops_and_starts_loses_no_result(
    private_engine: PrivateEngine, tiny_images: Any, options: Any
) -> None:
    settings = {
        "DOCKER_HOST": private_engine.address,
        "DOCKER_NETWORK": "none",
        "JOBS_DOCKER_PULLPOLICY": "never",
        "JOBS_RUNNERIMAGES": json.dumps({"*": "tiny/calls-recorder:v1"}),
    }
    backend = DockerBackend(options(**settings), environ={})
    await private_engine.ready(backend)
    client = docker.APIClient(base_url=private_engine.address, version="auto")
    entrypoint = f"ENTRYPOINT {json.dumps(['/bin/sh', '-c', SAVES_WHEN_TOLD])}"
    client.import_image_from_data(
        tiny_images.root,
        repository="tiny/calls-recorder",
        tag="v1",
        changes=[entrypoint, "ENV PATH=/bin"],
    )
    client.close()
    request = LaunchRequest("0123456789ab", JobType.RECORDING, "runner", {})
    workload = await backend.launch(request)
    async with asyncio.timeout(20):
        while b"ready" not in b"".join([chunk async for chunk in backend.logs(workload)]):
            await asyncio.sleep(0.05)

    await asyncio.to_thread(private_engine.stop)
    with pytest.raises(BackendError, match="cannot be used"):
        await backend.poll(workload)

    private_engine.start()
    await private_engine.ready(backend)
    seen = await backend.poll(workload)
    assert (seen.phase, seen.exit_code, seen.unpublished) == (Phase.EXITED, 1, True)
    assert [file.name for file in await backend.artifacts(workload)] == ["r1/a.mp4", "r1/job.json"]
    await backend.remove(workload)
    await backend.aclose()
