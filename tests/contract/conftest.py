"""How the kubernetes and the celery backend join the backend contract.

Kubernetes on the double of the API, or on a real cluster: by `make test-kubernetes` (docs/kubernetes.md).
Celery on a real broker, with a worker as a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from offloader.backends.base import Backend, LaunchRequest, Phase
from offloader.backends.kubernetes.backend import KubernetesBackend
from offloader.backends.kubernetes.options import KubernetesOptions
from offloader.backends.process import ProcessBackend
from offloader.errors import BackendError
from offloader.models import JobType, Workload
from offloader.settings import ProcessSettings, load_settings
from offloader.store.secret_key import Cipher
from testbed.brokers import BrokerMissing, RabbitServer, RedisServer, free_port

LOG_CAP_BYTES = 64 * 1024
CLAIM = "recordings"


class Launches:
    """What the benches have in common."""

    def __init__(self) -> None:
        self._made: list[Backend] = []
        self.launched: list[Workload] = []
        self.job_ids: list[str] = []

    def job_id(self) -> str:
        return secrets.token_hex(6)

    async def launch(self, backend: Backend, job_type: JobType = JobType.RECORDING) -> Workload:
        input_data = {"call_id": "c1", "width": 1280, "auth_token": "t0ken", "ld_preload": "/evil"}
        request = LaunchRequest(self.job_id(), job_type, "runner", input_data)
        self.job_ids.append(request.job_id)
        workload = await backend.launch(request)
        self.launched.append(workload)
        return workload


class KubernetesBench(Launches):
    """Runs scripts as the command of the job's container, by the pod template."""

    name = "kubernetes"
    models_dir = "/models"
    keeps_the_start_of_a_log = True

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        enforce_memory: Callable[[Workload], None] | None = None,
    ) -> None:
        """`enforce_memory`: what the cluster's nodes do to a job above its limit, where they do not do it."""
        super().__init__()
        self._environ = environ
        self.enforce_memory = enforce_memory
        self._image = environ.get("K8S_TEST_IMAGE", "busybox:1.36")
        self._instance = f"test-{secrets.token_hex(4)}"

    def backend(self, script: str = "true") -> Backend:
        """A backend as a service that has just started has it; its jobs run `script`."""

        def template(*command: str) -> dict[str, Any]:
            return {"spec": {"containers": [{"name": "job", "command": list(command)}]}}

        templates = {
            "recording": template("/bin/sh", "-c", script),
            "transcribing": template("/no/such/program"),
        }
        own = {
            "JOBS_APITYPE": "kubernetes",
            "JOBS_RUNNERIMAGES": json.dumps({"*": self._image}),
            "JOBS_KUBERNETES_PODTEMPLATE": json.dumps(templates),
            "JOBS_KUBERNETES_INSTANCE": self._instance,
            "JOBS_KUBERNETES_LOGMAXSIZE": str(LOG_CAP_BYTES),
            "JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS": "recording: {limits: {memory: 256Mi}}",
        }
        jobs = load_settings(Path("/nonexistent"), {**self._environ, **own}).jobs
        backend = KubernetesBackend(KubernetesOptions.of(jobs), environ={})
        self._made.append(backend)
        return backend

    def touch(self, workload: Workload, name: str) -> None:
        """Make a file in the job's DATA_DIR."""
        claim_dir = Path(self._environ["JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR"])
        folder = f"calls-recorder-job-{workload.reference['job_id']}"
        (claim_dir / self._instance / folder / "data" / name).touch()

    def alive(self, pids: list[int]) -> set[str]:
        """A container's processes end with it."""
        return set()

    async def clean_up(self) -> None:
        backend = self.backend()
        for workload in [*self.launched, *(await backend.adopt()).values()]:
            await backend.stop(workload, grace_s=0)
            with suppress(TimeoutError, BackendError):
                async with asyncio.timeout(20):
                    while (await backend.poll(workload)).phase in (Phase.STARTING, Phase.RUNNING):
                        await asyncio.sleep(0.02)
                await backend.remove(workload)
        for made in self._made:
            await made.aclose()


def _kill_for_memory(cluster: Any, workload: Workload) -> None:
    """The double's node limits nothing by itself."""
    names = [pod["metadata"]["name"] for pod in cluster.objects.all("pods")]
    (name,) = [name for name in names if str(workload.reference["job_id"]) in name]
    cluster.kubelet.kill(name, oom=True)


@pytest.fixture
def files_at_hand() -> None:
    """What a test asks for that makes or reads files of jobs: a real cluster's claim may be out of reach."""
    if os.environ.get("K8S_TEST") == "1" and "K8S_TEST_CLAIM_DIR" not in os.environ:
        pytest.skip("K8S_TEST_CLAIM_DIR is not set: docs/kubernetes.md, Tests on a real cluster")


@pytest.fixture
def kubernetes_bench(
    tmp_path: Path,
) -> Callable[[], AbstractAsyncContextManager[KubernetesBench]]:
    """Makes the bench; its cluster ends with the block."""

    @asynccontextmanager
    async def on_the_double() -> AsyncIterator[KubernetesBench]:
        from testbed.kubernetes.server import running_cluster  # only where it is used: it is big

        async with running_cluster(tmp_path / "cluster", second_s=0.5) as cluster:
            environ = {
                "KUBECONFIG": str(cluster.kubeconfig(tmp_path / "kubeconfig")),
                "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME": CLAIM,
                "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR": str(cluster.kubelet.claim_dir(CLAIM)),
            }
            bench = KubernetesBench(environ, enforce_memory=partial(_kill_for_memory, cluster))
            yield bench
            await bench.clean_up()

    @asynccontextmanager
    async def on_a_real_one() -> AsyncIterator[KubernetesBench]:
        named = {
            "KUBECONFIG": "KUBECONFIG",
            "K8S_NAMESPACE": "K8S_NAMESPACE",
            "K8S_TEST_IMAGE": "K8S_TEST_IMAGE",
            "K8S_TEST_CLAIM": "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME",
            "K8S_TEST_CLAIM_DIR": "JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR",
        }
        if "K8S_TEST_CLAIM" not in os.environ:
            pytest.fail("K8S_TEST_CLAIM is not set: docs/kubernetes.md, Tests on a real cluster")
        environ = {key: os.environ[name] for name, key in named.items() if name in os.environ}
        bench = KubernetesBench(environ)
        yield bench
        await bench.clean_up()

    return on_a_real_one if os.environ.get("K8S_TEST") == "1" else on_the_double


@dataclass(frozen=True)
class CeleryHost:
    """A broker, and a worker as a process of its own; for all tests on that broker."""

    broker_url: str
    secret_key: str
    jobs_dir: Path
    script: Path
    """What its recording jobs run, as a shell reads it when the job begins."""
    process: subprocess.Popen[bytes]


class CeleryBench(Launches):
    """Runs scripts on another host, whose worker runs them as processes."""

    name = "celery"
    enforce_memory = None
    models_dir = "/models-here"
    keeps_the_start_of_a_log = True

    def __init__(self, host: CeleryHost) -> None:
        super().__init__()
        self._host = host
        self._servers: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []
        host.script.unlink(missing_ok=True)

    def backend(self, script: str = "true") -> Backend:
        """A backend as a service that has just started has it; its jobs run `script`."""
        # Only where they are used: Celery is big.
        from offloader.api.errors import install_error_handlers
        from offloader.api.launches import launch_router
        from offloader.backends.celery.backend import CeleryBackend
        from offloader.backends.celery.options import CeleryOptions

        if script != "true" or not self._host.script.exists():
            self._host.script.write_text(script)
        port = free_port()
        environ = {
            "JOBS_APITYPE": "celery",
            "JOBS_CELERY_BROKERURL": self._host.broker_url,
            "JOBS_CELERY_OWNURL": f"http://127.0.0.1:{port}",
        }
        jobs = load_settings(Path("/nonexistent"), environ).jobs
        backend = CeleryBackend(CeleryOptions.of(jobs), cipher=Cipher(self._host.secret_key))
        self._made.append(backend)
        app = FastAPI()
        install_error_handlers(app)
        app.include_router(launch_router(backend))
        # Where workers claim what this one launches.
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
        self._servers.append((server, asyncio.create_task(server._serve())))
        return backend

    def touch(self, workload: Workload, name: str) -> None:
        """Make a file in the job's DATA_DIR."""
        (self._host.jobs_dir / str(workload.reference["job_id"]) / "data" / name).touch()

    def alive(self, pids: list[int]) -> set[str]:
        """Which of the processes that a job has named are still there."""
        return {f"{pid}" for pid in pids} & set(os.listdir("/proc"))

    async def clean_up(self) -> None:
        """Behind the worker's back, which is quicker than to ask it."""
        settings = ProcessSettings(self._host.jobs_dir, "", (), (), 300.0, LOG_CAP_BYTES)
        there = ProcessBackend(settings, environ={})
        for workload in (await there.adopt()).values():
            await there.stop(workload, grace_s=0)
            async with asyncio.timeout(20):
                while (await there.poll(workload)).phase in (Phase.STARTING, Phase.RUNNING):
                    await asyncio.sleep(0.02)
            await there.remove(workload)
        for made in self._made:
            await made.aclose()
        for server, serving in self._servers:
            server.should_exit = True
            await serving


@pytest.fixture
def celery_bench(
    celery_host: Callable[[str], CeleryHost],
) -> Callable[[str], AbstractAsyncContextManager[CeleryBench]]:
    """Makes the bench on `redis` or on `rabbitmq`."""

    @asynccontextmanager
    async def on(kind: str) -> AsyncIterator[CeleryBench]:
        bench = CeleryBench(celery_host(kind))
        yield bench
        await bench.clean_up()

    return on


@pytest.fixture(scope="session")
def celery_host(
    _started_rabbitmq: Callable[[], RabbitServer],
    tmp_path_factory: pytest.TempPathFactory,
    engine_missing: Callable[[str, str], None],
) -> Iterator[Callable[[str], CeleryHost]]:
    """The host on `redis` or on `rabbitmq`, started at its first use."""
    hosts: dict[str, CeleryHost] = {}
    with ExitStack() as stack:

        def broker_url(kind: str, directory: Path) -> str:
            if kind == "rabbitmq":
                return _started_rabbitmq().new_host().url
            server = RedisServer(directory / "redis")
            server.start()
            stack.callback(server.stop)
            return server.url

        def host(kind: str) -> CeleryHost:
            if kind not in hosts:
                directory = tmp_path_factory.mktemp(f"celery-{kind}")
                try:
                    url = broker_url(kind, directory)
                except BrokerMissing as error:
                    engine_missing(kind, str(error))
                    raise AssertionError from None
                hosts[kind] = _start_host(directory, url)
                stack.callback(_end, hosts[kind].process)
            return hosts[kind]

        yield host


def _start_host(directory: Path, broker_url: str) -> CeleryHost:
    script, secret_key, port = directory / "script", secrets.token_urlsafe(32), free_port()
    own = {
        "PATH": os.environ["PATH"],
        "HOME": "/home-here",
        "SERVICE_SECRET": "hush",
        "STATE_DIRECTORY": str(directory),
        "OFFLOADER_SECRET_KEY": secret_key,
        "JOBS_CELERY_BROKERURL": broker_url,
        "JOBS_PROCESS_JOBSDIR": str(directory / "jobs"),
        "JOBS_PROCESS_MODELSDIR": CeleryBench.models_dir,
        "JOBS_PROCESS_RECORDERCOMMAND": json.dumps(["/bin/sh", "-c", f'eval "$(cat {script})"']),
        "JOBS_PROCESS_TRANSCRIBERCOMMAND": '["/no/such/program"]',
        "JOBS_PROCESS_LOGMAXBYTES": str(LOG_CAP_BYTES),
        "JOBS_PROCESS_MEMORYMAX": "256MiB",
        "WORKER_LISTENADDRESS": f"127.0.0.1:{port}",
        "WORKER_SLOTS": "20",
        "LOGGER_ENABLEFILE": "false",
    }
    with (directory / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "offloader", "worker"], env=own, stderr=log, stdout=log
        )
    give_up_s = time.monotonic() + 30
    while True:
        ended = process.poll()
        assert ended is None, (directory / "worker.log").read_text()
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success:
                break
        assert time.monotonic() < give_up_s, (directory / "worker.log").read_text()
        time.sleep(0.05)
    return CeleryHost(broker_url, secret_key, directory / "jobs", script, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait()
