"""Workloads of a former backend go to no other; job directories of this host are worked on all the same."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offloader.backends.base import Observation, Phase
from offloader.backends.celery.reference import Reference
from offloader.backends.docker.options import Reference as DockerReference
from offloader.backends.former import WithFormer
from offloader.backends.kubernetes.options import Reference as KubernetesReference
from offloader.backends.process_reference import NOBODY, process_workload
from offloader.backends.strangers import as_known_to
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError, FilesGone, FormerBackend
from offloader.models import JobType, Workload
from offloader.settings import JobsSettings, load_settings

FROZEN = Path(__file__).parents[2] / "fixtures" / "job_directories" / "v1"
JOB = "q1w2e3r4t5z6"
RESULT = "abcdefghijklmnopqrstuvwxyr"
PUBLISHES = 'test "$1" = salvage && echo "posts with $AUTH_TOKEN" && rm -r "$2"'


class Docker(StubBackend):
    """What a backend does that gets another one's workload: it takes it for its own."""

    async def poll(self, workload: Workload) -> Observation:
        if workload.backend != self.name:
            raise KeyError("job_id")
        return await super().poll(workload)


def settings_with(jobs_dir: Path, **environ: str) -> JobsSettings:
    here = {"JOBS_APITYPE": "docker", "JOBS_PROCESS_JOBSDIR": str(jobs_dir)}
    settings = load_settings(Path("/nonexistent"), here | environ).jobs
    command = ("/bin/sh", "-c", PUBLISHES, "sh")
    return replace(settings, process=replace(settings.process, recorder_command=command))


@pytest.fixture
def jobs_dir(tmp_path: Path) -> Path:
    return shutil.copytree(FROZEN, tmp_path / "jobs")


@pytest.fixture
def directory(jobs_dir: Path) -> Workload:
    return process_workload(jobs_dir / JOB, NOBODY)


@pytest.fixture
def backend(jobs_dir: Path) -> WithFormer:
    return WithFormer(Docker(name="docker"), settings=settings_with(jobs_dir), environ=os.environ)


def on_a_worker(local: Workload | None) -> Workload:
    return Reference(JOB, "host-1", "https://host-1:4546", local).workload()


async def ended(backend: WithFormer, workload: Workload) -> Observation:
    async with asyncio.timeout(25):
        while (seen := await backend.poll(workload)).phase in (Phase.STARTING, Phase.RUNNING):
            await asyncio.sleep(0.01)
    return seen


@pytest.mark.parametrize("celery", [False, True])
async def test_a_job_directory_of_this_host_is_read_and_its_result_published(
    backend: WithFormer, directory: Workload, celery: bool
) -> None:
    workload = on_a_worker(directory) if celery else directory
    seen = await backend.poll(workload)
    assert (seen.phase, seen.unpublished, seen.former) == (Phase.LOST, True, False)
    names = [file.name for file in await backend.artifacts(workload)]
    assert f"{RESULT}/recording.part.mp4" in names
    attempt = await backend.salvage(
        workload, job_type=JobType.RECORDING, variables={"AUTH_TOKEN": "t0ken"}
    )
    assert (await ended(backend, attempt)).exit_code == 0
    text = b"".join([chunk async for chunk in backend.logs(attempt)])
    assert b"posts with t0ken" in text
    assert not (await backend.poll(workload)).unpublished


async def test_its_own_workloads_go_to_the_configured_backend(backend: WithFormer) -> None:
    own = backend._own
    assert isinstance(own, Docker)
    own.exit(JOB, 0)
    assert (await backend.poll(Workload("docker", {"id": JOB}))).exit_code == 0
    assert (backend.name, backend.ends_with_service) == (own.name, own.ends_with_service)


FORMER: Mapping[str, Workload] = {
    "docker": DockerReference(JOB, JobType.RECORDING, "image").workload(),
    "kubernetes": KubernetesReference(JOB, JobType.RECORDING, "image").workload(),
    "celery": on_a_worker(None),
    "celery's docker": on_a_worker(DockerReference(JOB, JobType.RECORDING, "image").workload()),
    "damaged": Workload("celery", {"local": "{"}),
    "damaged directory": Workload("process", {}),
    "gone": process_workload(Path("/nowhere") / JOB, NOBODY),
}


@pytest.mark.parametrize("workload", FORMER.values(), ids=FORMER)
async def test_what_is_out_of_reach_is_named_taken_for_unpublished_and_touched_by_nobody(
    jobs_dir: Path, workload: Workload
) -> None:
    own = Docker(name="other")
    backend = WithFormer(own, settings=settings_with(jobs_dir), environ=os.environ)
    seen = await backend.poll(workload)
    assert (seen.phase, seen.unpublished, seen.former) == (Phase.LOST, True, True)
    assert seen.detail.startswith(f"it ran with jobs.api_type = {workload.backend!r}, which is ")
    for ask in asked(backend, workload):
        with pytest.raises(FormerBackend) as refused:
            await ask
        assert str(refused.value) == seen.detail
    assert issubclass(FormerBackend, FilesGone), "there may be a copy"
    touched = (own.removed, own.erased, own.salvaged, own.stopped, own.lowered)
    assert not any(touched)


def asked(backend: WithFormer, workload: Workload) -> list[Awaitable[object]]:
    job_type, variables = JobType.RECORDING, {"AUTH_TOKEN": "t"}

    async def read(chunks: Any) -> None:
        async for _ in chunks:
            raise AssertionError("there is nothing to read")

    return [
        backend.stop(workload, grace_s=0),
        backend.artifacts(workload),
        backend.remove(workload),
        backend.erase(workload),
        backend.lower(workload),
        backend.salvage(workload, job_type=job_type, variables=variables),
        backend.retranscribe(workload, job_type=job_type, variables=variables),
        read(backend.logs(workload)),
        read(backend.follow(workload)),
        read(backend.read_artifact(workload, "x")),
    ]


async def test_a_directory_elsewhere_on_this_host_is_not_worked_on(
    backend: WithFormer, jobs_dir: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(jobs_dir / JOB, tmp_path / "other" / JOB)
    seen = await backend.poll(process_workload(other, NOBODY))
    assert seen.former
    assert "below jobs.process.jobs_dir" in seen.detail


async def test_a_user_for_process_jobs_that_is_not_there_any_more_is_named(jobs_dir: Path) -> None:
    settings = settings_with(jobs_dir, JOBS_PROCESS_USER="nobody-of-this-host")
    backend = WithFormer(Docker(name="docker"), settings=settings, environ=os.environ)
    seen = await backend.poll(process_workload(jobs_dir / JOB, NOBODY))
    assert (seen.former, seen.unpublished) == (True, True)
    assert "nobody-of-this-host" in seen.detail


@pytest.mark.parametrize("name", ["docker", "kubernetes", "celery", "process"])
@pytest.mark.parametrize(
    "former",
    [
        process_workload(Path("/var/lib/jobs") / JOB, NOBODY),
        *(FORMER[name] for name in ("docker", "kubernetes", "celery")),
    ],
    ids=lambda workload: workload.backend,
)
def test_a_job_is_rescued_as_the_configured_backend_would_have_known_it(
    name: str, former: Workload
) -> None:
    of: Mapping[str, Callable[[Workload], str]] = {
        "docker": lambda workload: DockerReference.of(workload).job_id,
        "kubernetes": lambda workload: KubernetesReference.of(workload).job_id,
        "celery": lambda workload: Reference.of(workload).job_id,
        "process": lambda workload: Path(str(workload.reference["directory"])).name,
    }
    known = as_known_to(name, former, JobType.RECORDING)
    assert (known.backend, of[name](known)) == (name, JOB)


async def test_a_rescue_runs_on_the_configured_backend(backend: WithFormer) -> None:
    gone = FORMER["gone"]
    own = backend._own
    assert isinstance(own, Docker)

    seen: list[Workload] = []

    async def rescue(workload: Workload, **_: Any) -> Any:
        seen.append(workload)

    own.rescue = rescue
    await backend.rescue(gone, job_type=JobType.RECORDING, result=RESULT, variables={})
    assert [DockerReference.of(workload).job_id for workload in seen] == [JOB]
    with pytest.raises(BackendError, match="does not name its job"):
        await backend.rescue(
            Workload("odd", {}), job_type=JobType.RECORDING, result=RESULT, variables={}
        )


async def test_settings_that_change_reach_job_directories_too(
    backend: WithFormer, directory: Workload, jobs_dir: Path
) -> None:
    backend.trust(b"an authority")
    await backend.poll(directory)
    made: Any = backend._directories
    assert made._launcher._surroundings.good_ca == b"an authority"
    network = replace(settings_with(jobs_dir).network, https_proxy="http://proxy:3128")
    backend.retune(replace(settings_with(jobs_dir), network=network))
    assert made._launcher._surroundings.network.https_proxy == "http://proxy:3128"
    await backend.aclose()
