"""What every backend promises (offloader/backends/base.py), with real jobs: small shell scripts.

A backend joins by a `Bench` that runs a script as a recording job.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from offloader.backends.base import Backend, LaunchRequest, Observation, Phase
from offloader.backends.docker.backend import DockerBackend
from offloader.backends.docker.options import DockerOptions
from offloader.backends.process import ProcessBackend
from offloader.errors import BackendError, FilesGone, LaunchFailed, WorkloadBusy
from offloader.models import JobType, Workload
from offloader.settings import ProcessSettings, load_settings

PATIENCE_S = 25.0
LOG_CAP_BYTES = 64 * 1024
MEMORY_MAX_BYTES = 256 << 20


class ProcessBench:
    """Runs scripts under the process backend and cleans up after them."""

    name = "process"
    enforce_memory = None
    models_dir = "/models-here"
    keeps_the_start_of_a_log = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = count(1)
        self.launched: list[Workload] = []
        self.job_ids: list[str] = []

    def backend(self, script: str = "true") -> Backend:
        """A backend as a service that has just started has it; its jobs run `script`."""
        settings = ProcessSettings(
            jobs_dir=self._directory,
            models_dir=self.models_dir,
            recorder_command=("/bin/sh", "-c", script),
            transcriber_command=("/no/such/program",),
            stop_grace_s=300.0,
            log_max_bytes=LOG_CAP_BYTES,
            memory_max_bytes=MEMORY_MAX_BYTES,
        )
        environ = {"PATH": os.environ["PATH"], "HOME": "/home-here", "SERVICE_SECRET": "hush"}
        return ProcessBackend(settings, environ=environ)

    def job_id(self) -> str:
        return f"{next(self._numbers):012x}"

    async def launch(self, backend: Backend, job_type: JobType = JobType.RECORDING) -> Workload:
        input_data = {"call_id": "c1", "width": 1280, "auth_token": "t0ken", "ld_preload": "/evil"}
        request = LaunchRequest(self.job_id(), job_type, "runner", input_data)
        workload = await backend.launch(request)
        self.launched.append(workload)
        self.job_ids.append(request.job_id)
        return workload

    def touch(self, workload: Workload, name: str) -> None:
        """Make a file in the job's DATA_DIR."""
        (Path(str(workload.reference["directory"])) / "data" / name).touch()

    def alive(self, pids: list[int]) -> set[str]:
        """Which of the processes that a job has named are still there."""
        return {f"{pid}" for pid in pids} & set(os.listdir("/proc"))

    async def clean_up(self) -> None:
        backend = self.backend()
        for workload in self.launched:
            await backend.stop(workload, grace_s=0)
            with suppress(TimeoutError):
                await ended(backend, workload)
        await backend.aclose()


class DockerBench:
    """Runs scripts in containers of a real engine, by images made for the purpose."""

    name = "docker"
    enforce_memory = None
    models_dir = "/models"
    keeps_the_start_of_a_log = False

    def __init__(self, directory: Path, images: Any) -> None:
        self._models = directory / "models"
        self._models.mkdir(parents=True)
        self._images = images
        if images.door is not None:
            images.door.models.add(str(self._models))
        self._instance = f"{images.run_id}-{secrets.token_hex(4)}"
        self._made: list[Backend] = []
        self.launched: list[Workload] = []
        self.job_ids: list[str] = []

    def backend(self, script: str = "true") -> Backend:
        """A backend as a service that has just started has it; its jobs run `script`."""
        environ = {"JOBS_DOCKER_MODELSDIR": str(self._models)}
        environ |= {"JOBS_DOCKER_INSTANCE": self._instance}
        environ |= {"JOBS_DOCKER_LOGMAXSIZE": str(LOG_CAP_BYTES)}
        environ |= {"JOBS_DOCKER_MEMORY": str(MEMORY_MAX_BYTES)}
        patterns = {
            "runner": self._images.image("/bin/sh", "-c", script),
            "unstartable": self._images.image("/no/such/program"),
        }
        environ |= {"JOBS_RUNNERIMAGES": json.dumps(patterns)}
        settings = load_settings(Path("/nonexistent"), environ)
        backend = DockerBackend(
            DockerOptions.of(settings.jobs),
            environ={**self._images.environ, "SERVICE_SECRET": "hush"},
        )
        self._made.append(backend)
        return backend

    def job_id(self) -> str:
        return secrets.token_hex(6)

    async def launch(self, backend: Backend, job_type: JobType = JobType.RECORDING) -> Workload:
        input_data = {"call_id": "c1", "width": 1280, "auth_token": "t0ken", "ld_preload": "/evil"}
        runner = "runner" if job_type is JobType.RECORDING else "unstartable"
        request = LaunchRequest(self.job_id(), job_type, runner, input_data)
        self.job_ids.append(request.job_id)
        workload = await backend.launch(request)
        self.launched.append(workload)
        return workload

    def touch(self, workload: Workload, name: str) -> None:
        """Make a file in the job's DATA_DIR."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        container = f"calls-recorder-{workload.reference['job_id']}"
        self._images.client.put_archive(container, "/data", content.getvalue())

    def alive(self, pids: list[int]) -> set[str]:
        """A container's processes end with it."""
        return set()

    async def clean_up(self) -> None:
        backend = self.backend()
        for workload in [*self.launched, *(await backend.adopt()).values()]:
            await backend.stop(workload, grace_s=0)
            with suppress(TimeoutError):
                await ended(backend, workload)
            await backend.remove(workload)
        for made in self._made:
            await made.aclose()


@pytest.fixture(
    params=[
        "process",
        pytest.param("docker", marks=pytest.mark.slow),
        pytest.param("kubernetes", marks=pytest.mark.slow),
        pytest.param("celery-redis", marks=pytest.mark.slow),
        pytest.param("celery-rabbitmq", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ]
)
async def bench(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kubernetes_bench: Callable[[], AbstractAsyncContextManager[Any]],
    celery_bench: Callable[[str], AbstractAsyncContextManager[Any]],
) -> AsyncIterator[Any]:
    made: ProcessBench | DockerBench
    if request.param == "kubernetes":
        async with kubernetes_bench() as made_there:
            yield made_there
        return
    if request.param.startswith("celery-"):
        async with celery_bench(request.param.removeprefix("celery-")) as made_there:
            yield made_there
        return
    if request.param == "process":
        made = ProcessBench(tmp_path / "jobs")
    else:
        made = DockerBench(tmp_path, request.getfixturevalue("tiny_images"))
    yield made
    await made.clean_up()


async def until(
    backend: Backend, workload: Workload, wanted: Callable[[Observation], bool]
) -> Observation:
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(observation := await backend.poll(workload)):
            await asyncio.sleep(0.01)
    return observation


async def ended(backend: Backend, workload: Workload) -> Observation:
    return await until(backend, workload, lambda o: o.phase in (Phase.EXITED, Phase.LOST))


async def said(backend: Backend, workload: Workload, text: str) -> str:
    """The log, as soon as it holds `text`."""
    async with asyncio.timeout(PATIENCE_S):
        while text not in (log := await whole_log(backend, workload)):
            await asyncio.sleep(0.01)
    return log


async def whole_log(backend: Backend, workload: Workload, **options: int) -> str:
    return b"".join([chunk async for chunk in backend.logs(workload, **options)]).decode()


@pytest.mark.parametrize(
    ("script", "exit_code"),
    [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)],
)
async def test_an_exit_code_is_known_also_to_a_later_process(bench, script, exit_code) -> None:
    backend = bench.backend(script)
    before_s = time.time()
    workload = await bench.launch(backend)
    for watcher in (backend, bench.backend()):
        observation = await ended(watcher, workload)
        assert (observation.phase, observation.exit_code) == (Phase.EXITED, exit_code)
        assert observation.stopped_at is not None
        assert before_s - 1 <= observation.stopped_at.timestamp() <= time.time() + 1


@pytest.mark.usefixtures("files_at_hand")
async def test_a_job_is_seen_running_until_it_ends(bench) -> None:
    backend = bench.backend("echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done")
    workload = await bench.launch(backend)
    await said(backend, workload, "ready")
    assert (await backend.poll(workload)).phase is Phase.RUNNING
    bench.touch(workload, "go")
    assert (await ended(backend, workload)).exit_code == 0


async def test_a_program_that_cannot_be_started_never_ran(bench) -> None:
    backend = bench.backend()
    workload = await bench.launch(backend, JobType.TRANSCRIBING)
    observation = await ended(backend, workload)
    assert (observation.phase, observation.exit_code) == (Phase.EXITED, None)
    assert "/no/such/program" in observation.detail


async def test_a_job_gets_its_input_and_nothing_of_the_services_environment(bench) -> None:
    backend = bench.backend("env; touch $DATA_DIR/file")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    variables = dict(
        line.split("=", 1) for line in (await whole_log(backend, workload)).splitlines()
    )
    assert variables["CALL_ID"] == "c1"
    assert variables["WIDTH"] == "1280"
    assert variables["AUTH_TOKEN"] == "t0ken"
    assert variables["MODELS_DIR"] == bench.models_dir
    assert not {"LD_PRELOAD", "SERVICE_SECRET", "VIRTUAL_ENV"} & set(variables)


async def test_stdout_and_stderr_are_kept_to_the_last_byte(bench) -> None:
    backend = bench.backend("echo out; sleep 0.1; echo err >&2; sleep 0.1; printf end")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    assert await whole_log(backend, workload) == "out\nerr\nend"


async def test_a_long_log_keeps_its_start_and_its_end(bench) -> None:
    backend = bench.backend("seq 1 200000; echo last")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    log = await whole_log(backend, workload)
    assert log.endswith("\n199999\n200000\nlast\n")
    assert len(log) < 3 * LOG_CAP_BYTES
    numbers = [int(line) for line in log.splitlines() if line.isdigit()]
    steps = [b - a for a, b in pairwise(numbers)]
    if bench.keeps_the_start_of_a_log:
        assert log.startswith("1\n2\n3\n")
        assert log.count('"event":"log.cut"') == 1
        assert sum(step != 1 for step in steps) == 1  # one gap, and every line is whole
    else:
        assert set(steps) == {1}


async def test_the_tail_of_a_log_is_its_end(bench) -> None:
    backend = bench.backend("seq 1 200000; echo last")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    tail = await whole_log(backend, workload, tail_bytes=1000)
    assert len(tail) == 1000
    assert (await whole_log(backend, workload)).endswith(tail)
    assert await whole_log(backend, workload, tail_bytes=0) == ""


@pytest.mark.usefixtures("files_at_hand")
async def test_a_polite_stop_reaches_the_job_once_and_its_own_exit_code_counts(bench) -> None:
    script = "trap 'echo term' TERM; echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done; exit 7"
    backend = bench.backend(script)
    workload = await bench.launch(backend)
    await said(backend, workload, "ready")
    await asyncio.gather(*(backend.stop(workload, grace_s=60) for _ in range(5)))
    await said(backend, workload, "term")
    await backend.stop(workload, grace_s=60)
    await bench.backend().stop(workload, grace_s=60)
    bench.touch(workload, "go")
    observation = await ended(backend, workload)
    assert (observation.exit_code, observation.detail) == (7, "")
    assert (await whole_log(backend, workload)).count("term") == 1


async def test_a_job_that_ignores_the_stop_is_killed_after_the_grace(bench) -> None:
    backend = bench.backend("trap '' TERM; echo ready; while true; do sleep 0.02; done")
    workload = await bench.launch(backend)
    await said(backend, workload, "ready")
    asked_s = time.monotonic()
    await backend.stop(workload, grace_s=0.4)
    observation = await ended(backend, workload)
    assert time.monotonic() - asked_s >= 0.4
    assert (observation.exit_code, "grace" in observation.detail) == (137, True)


async def test_a_clearly_shorter_grace_asks_again_and_a_longer_one_changes_nothing(bench) -> None:
    backend = bench.backend("trap 'echo term' TERM; echo ready; while true; do sleep 0.02; done")
    workload = await bench.launch(backend)
    await said(backend, workload, "ready")
    await backend.stop(workload, grace_s=60)
    await said(backend, workload, "term")
    await backend.stop(workload, grace_s=600)
    await backend.stop(workload, grace_s=0.3)
    assert (await ended(backend, workload)).exit_code == 137
    assert (await whole_log(backend, workload)).count("term") == 2


async def test_a_job_can_be_stopped_the_moment_it_was_launched(bench) -> None:
    backend = bench.backend("while true; do sleep 0.02; done")
    workload = await bench.launch(backend)
    await backend.stop(workload, grace_s=60)
    assert (await ended(backend, workload)).exit_code == 143


async def test_stopping_what_has_ended_does_nothing(bench) -> None:
    backend = bench.backend("exit 0")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    await backend.stop(workload, grace_s=0)
    assert (await backend.poll(workload)).exit_code == 0


async def test_nothing_that_a_job_started_outlives_it(bench) -> None:
    script = (
        "sleep 300 & echo $!; setsid sleep 300 & echo $!; (setsid sleep 300 & echo $!); sleep 0.2"
    )
    backend = bench.backend(script)
    workload = await bench.launch(backend)
    assert (await ended(backend, workload)).exit_code == 0
    pids = [int(pid) for pid in (await whole_log(backend, workload)).split()]
    assert len(pids) == 3
    assert not bench.alive(pids)


async def test_a_later_process_adopts_watches_and_stops_a_running_job(bench) -> None:
    first = bench.backend("trap 'exit 5' TERM; echo ready; while true; do sleep 0.02; done")
    workload = await bench.launch(first)
    await said(first, workload, "ready")
    second = bench.backend()
    found = await second.adopt()
    adopted = found[bench.job_ids[0]]
    assert (await second.poll(adopted)).phase is Phase.RUNNING
    await second.stop(adopted, grace_s=60)
    assert (await ended(second, adopted)).exit_code == 5


async def test_ended_jobs_are_found_too_until_they_are_removed(bench) -> None:
    backend = bench.backend("exit 0")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    assert set(await bench.backend().adopt()) == {bench.job_ids[0]}
    await backend.remove(workload)
    assert await bench.backend().adopt() == {}


@pytest.mark.parametrize(
    ("script", "unpublished"),
    [
        ("mkdir $DATA_DIR/abc; touch $DATA_DIR/abc/job.json; exit 0", True),
        ("mkdir $DATA_DIR/abc; touch $DATA_DIR/abc/job.json; exit 1", True),
        ("mkdir $DATA_DIR/abc; touch $DATA_DIR/abc/recorder.log", False),
        ("exit 1", False),
    ],
)
@pytest.mark.usefixtures("files_at_hand")
async def test_a_result_that_was_not_published_is_told_of(bench, script, unpublished) -> None:
    backend = bench.backend(script)
    workload = await bench.launch(backend)
    assert (await ended(backend, workload)).unpublished is unpublished


async def test_a_running_job_cannot_be_removed(bench) -> None:
    backend = bench.backend("echo ready; while true; do sleep 0.02; done")
    workload = await bench.launch(backend)
    with pytest.raises(BackendError, match="still runs"):
        await backend.remove(workload)
    await said(backend, workload, "ready")


async def test_removal_leaves_nothing_and_may_be_repeated(bench) -> None:
    backend = bench.backend("touch $DATA_DIR/file")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    await backend.remove(workload)
    await backend.remove(workload)
    assert (await backend.poll(workload)).phase is Phase.LOST
    assert await whole_log(backend, workload) == ""
    await backend.stop(workload, grace_s=0)


@pytest.mark.usefixtures("files_at_hand")
async def test_erasing_takes_the_files_alone_where_the_log_is_elsewhere(bench) -> None:
    script = "echo said; mkdir -p $DATA_DIR/r/artifacts; echo voice > $DATA_DIR/r/artifacts/a.ogg"
    backend = bench.backend(script)
    workload = await bench.launch(backend)
    await ended(backend, workload)
    assert [file.name for file in await backend.artifacts(workload)] == ["r/artifacts/a.ogg"]
    for _ in range(2):
        await backend.erase(workload)
        assert await backend.artifacts(workload) == []
    if bench.name != "docker":  # whose containers hold volume and log together
        assert "said" in await whole_log(backend, workload)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("files_at_hand")
async def test_files_of_a_running_job_are_not_erased(bench) -> None:
    backend = bench.backend("touch $DATA_DIR/file; echo ready; while true; do sleep 0.02; done")
    workload = await bench.launch(backend)
    await said(backend, workload, "ready")
    with pytest.raises(BackendError, match="still runs"):
        await backend.erase(workload)


async def test_a_second_launch_under_one_id_is_refused_and_the_first_goes_on(bench) -> None:
    backend = bench.backend("echo ready; while true; do sleep 0.02; done")
    workload = await bench.launch(backend)
    request = LaunchRequest(bench.job_ids[0], JobType.RECORDING, "runner", {})
    with pytest.raises(LaunchFailed):
        await backend.launch(request)
    await said(backend, workload, "ready")
    assert (await backend.poll(workload)).phase in (Phase.STARTING, Phase.RUNNING)


async def test_a_launch_that_fails_leaves_nothing_behind(bench) -> None:
    backend = bench.backend()
    too_large = LaunchRequest(bench.job_id(), JobType.RECORDING, "runner", {"x": "y" * 200_000})
    with pytest.raises(LaunchFailed):
        await backend.launch(too_large)
    assert await backend.adopt() == {}


async def test_a_closed_backend_leaves_its_jobs_running(bench) -> None:
    backend = bench.backend("echo ready; while true; do sleep 0.02; done")
    workload = await bench.launch(backend)
    await said(backend, workload, "ready")
    await backend.aclose()
    await backend.aclose()
    assert (await bench.backend().poll(workload)).phase is Phase.RUNNING


LEAVES_A_RESULT = "mkdir -p $DATA_DIR/r1; echo {} > $DATA_DIR/r1/job.json; echo recorded; exit 1"
"""As a recorder does that could not publish; called again with `salvage DIR` it publishes."""
SALVAGES = f'if [ "$0" = salvage ]; then env; rm -r "$1"; exit 0; fi; {LEAVES_A_RESULT}'


@pytest.mark.usefixtures("files_at_hand")
async def test_what_a_job_left_can_be_salvaged_by_its_own_program(bench) -> None:
    backend = bench.backend(SALVAGES)
    workload = await bench.launch(backend)
    assert (await ended(backend, workload)).unpublished
    salvage = await backend.salvage(
        workload,
        job_type=JobType.RECORDING,
        variables={"AUTH_TOKEN": "new", "SITE_URL": "http://h"},
    )
    later = bench.backend(SALVAGES)
    assert (await ended(later, salvage)).exit_code == 0
    log = await whole_log(later, salvage)
    assert "AUTH_TOKEN=new" in log
    assert "SITE_URL=http://h" in log
    assert "CALL_ID" not in log, "the dead job's own variables are not kept anywhere"
    assert not (await later.poll(workload)).unpublished
    assert await whole_log(later, workload) == "recorded\n", "the job's own log stays"


@pytest.mark.usefixtures("files_at_hand")
async def test_a_salvage_that_fails_can_be_repeated_and_all_goes_with_the_job(bench) -> None:
    backend = bench.backend(f'if [ "$0" = salvage ]; then exit 1; fi; {LEAVES_A_RESULT}')
    workload = await bench.launch(backend)
    await ended(backend, workload)
    for _ in range(2):
        salvage = await backend.salvage(workload, job_type=JobType.RECORDING, variables={})
        assert (await ended(backend, salvage)).exit_code == 1
        assert (await backend.poll(workload)).unpublished
    assert list(await backend.adopt()) == [bench.job_ids[0]], "a salvage is no job of its own"
    await backend.remove(workload)
    assert (await backend.poll(workload)).phase is Phase.LOST
    assert (await backend.poll(salvage)).phase is Phase.LOST


async def test_nothing_left_is_nothing_to_salvage(bench) -> None:
    backend = bench.backend("true")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    with pytest.raises(FilesGone):
        await backend.salvage(workload, job_type=JobType.RECORDING, variables={})


RESCUES = f"""
if [ "$0" = rescue ]; then env; mkdir -p $DATA_DIR/$1; echo {{}} > $DATA_DIR/$1/job.json; exit 1; fi
{SALVAGES.replace("mkdir", "exit 137; mkdir")}"""
"""As a recorder whose host died; called with `rescue ID` it makes its files again and cannot publish them."""


@pytest.mark.usefixtures("files_at_hand")
async def test_a_job_whose_files_are_gone_is_rescued_and_goes_on_from_there(bench) -> None:
    backend = bench.backend(RESCUES)
    workload = await bench.launch(backend)
    assert not (await ended(backend, workload)).unpublished
    rescued = await backend.rescue(
        workload, job_type=JobType.RECORDING, result="r1", variables={"AUTH_TOKEN": "new"}
    )
    later = bench.backend(RESCUES)
    assert (await ended(later, rescued.attempt)).exit_code == 1
    assert "AUTH_TOKEN=new" in await whole_log(later, rescued.attempt)
    assert (await ended(later, rescued.workload)).unpublished
    names = [artifact.name for artifact in await later.artifacts(rescued.workload)]
    assert names == ["r1/job.json"]
    variables = {"AUTH_TOKEN": "newer"}
    salvage = await later.salvage(rescued.workload, job_type=JobType.RECORDING, variables=variables)
    assert (await ended(later, salvage)).exit_code == 0
    assert not (await later.poll(rescued.workload)).unpublished
    await later.remove(rescued.workload)
    assert (await later.poll(rescued.attempt)).phase is Phase.LOST
    assert bench.job_ids[0] not in await later.adopt()


KEEPS_AND_REPEATS = """
if [ "$0" = retranscribe ]; then env; mkdir -p $DATA_DIR/r1/artifacts/$RETRANSCRIPTION
printf again > $DATA_DIR/r1/artifacts/$RETRANSCRIPTION/transcript.txt; exit 3; fi
mkdir -p $DATA_DIR/r1/artifacts; printf voice > $DATA_DIR/r1/artifacts/a.ogg; echo recorded
"""


@pytest.mark.usefixtures("files_at_hand")
async def test_what_a_job_kept_can_be_transcribed_again_by_its_own_program(bench) -> None:
    backend = bench.backend(KEEPS_AND_REPEATS)
    workload = await bench.launch(backend)
    await ended(backend, workload)
    again = await backend.retranscribe(
        workload,
        job_type=JobType.RECORDING,
        variables={"RETRANSCRIPTION": "again-1", "MODEL": "small"},
    )
    later = bench.backend(KEEPS_AND_REPEATS)
    assert (await ended(later, again)).exit_code == 3
    log = await whole_log(later, again)
    assert "MODEL=small" in log
    assert "CALL_ID" not in log, "it is told everything anew"
    names = [file.name for file in await later.artifacts(workload)]
    assert names == ["r1/artifacts/a.ogg", "r1/artifacts/again-1/transcript.txt"]
    assert await whole_log(later, workload) == "recorded\n", "the job's own log stays"
    assert list(await later.adopt()) == [bench.job_ids[0]], "it is no job of its own"
    await later.remove(workload)
    assert (await later.poll(again)).phase is Phase.LOST


@pytest.mark.usefixtures("files_at_hand")
async def test_on_one_jobs_files_one_run_is_at_work_at_a_time(bench) -> None:
    backend = bench.backend(
        'if [ "$0" = retranscribe ]; then while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done; fi'
    )
    workload = await bench.launch(backend)
    await ended(backend, workload)
    again = partial(backend.retranscribe, workload, job_type=JobType.RECORDING, variables={})
    first = await again()
    while (await backend.poll(first)).phase is Phase.STARTING:
        await asyncio.sleep(0.02)
    with pytest.raises(WorkloadBusy):
        await again()
    bench.touch(workload, "go")
    assert (await ended(backend, first)).exit_code == 0
    assert (await ended(backend, await again())).exit_code == 0


async def test_of_a_removed_job_nothing_can_be_transcribed_again(bench) -> None:
    backend = bench.backend("true")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    await backend.remove(workload)
    with pytest.raises(LaunchFailed):
        await backend.retranscribe(workload, job_type=JobType.RECORDING, variables={})


@pytest.mark.usefixtures("files_at_hand")
async def test_lowering_a_job_leaves_it_running(bench) -> None:
    backend = bench.backend("echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done")
    workload = await bench.launch(backend)
    await said(backend, workload, "ready")
    for _ in range(2):
        await backend.lower(workload)
    assert (await backend.poll(workload)).phase is Phase.RUNNING
    bench.touch(workload, "go")
    assert (await ended(backend, workload)).exit_code == 0
    await backend.lower(workload)


async def test_the_room_for_files_is_known_or_honestly_unknown(bench) -> None:
    free = await bench.backend().free_disk_bytes()
    assert free is None or free > 0


@pytest.mark.usefixtures("files_at_hand")
async def test_a_log_is_followed_to_its_last_byte_while_it_is_written(bench) -> None:
    script = "echo one; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done; printf two"
    backend = bench.backend(script)
    workload = await bench.launch(backend)
    got = b""
    async with asyncio.timeout(PATIENCE_S):
        async for chunk in backend.follow(workload):
            got += chunk
            if got == b"one\n":
                bench.touch(workload, "go")
    assert got == b"one\ntwo"


async def test_following_the_log_of_an_ended_job_gives_all_of_it_and_ends(bench) -> None:
    backend = bench.backend("seq 1 1000")
    workload = await bench.launch(backend)
    await ended(backend, workload)
    async with asyncio.timeout(PATIENCE_S):
        followed = b"".join([chunk async for chunk in bench.backend().follow(workload)])
    assert followed.decode() == await whole_log(backend, workload)


LEAVES_FILES = """
cd $DATA_DIR; mkdir -p r1/deep; printf hello > r1/a.mp4; printf x > r1/deep/b.vtt
ln -s /etc/passwd r1/link; ln -s /etc r1/folder; mkfifo r1/pipe
"""


@pytest.mark.usefixtures("files_at_hand")
async def test_artifacts_are_the_plain_files_that_a_job_left(bench) -> None:
    backend = bench.backend(LEAVES_FILES)
    workload = await bench.launch(backend)
    await ended(backend, workload)
    artifacts = await backend.artifacts(workload)
    assert [(a.name, a.size_bytes) for a in artifacts] == [("r1/a.mp4", 5), ("r1/deep/b.vtt", 1)]
    chunks = [chunk async for chunk in backend.read_artifact(workload, "r1/a.mp4")]
    assert b"".join(chunks) == b"hello"
    rest = [chunk async for chunk in backend.read_artifact(workload, "r1/a.mp4", start=3)]
    assert b"".join(rest) == b"lo"
    await backend.remove(workload)
    assert list(await backend.artifacts(workload)) == []


@pytest.mark.usefixtures("files_at_hand")
async def test_a_file_that_was_written_again_is_another_version(bench) -> None:
    wait = "echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done"
    backend = bench.backend(f"printf one > $DATA_DIR/a; {wait}; sleep 1; printf two > $DATA_DIR/a")
    workload = await bench.launch(backend)
    await said(backend, workload, "ready")
    before = {a.name: a.version for a in await backend.artifacts(workload)}
    assert before == {a.name: a.version for a in await bench.backend().artifacts(workload)}
    bench.touch(workload, "go")
    await ended(backend, workload)
    after = {a.name: a.version for a in await backend.artifacts(workload)}
    assert before["a"] != after["a"]


@pytest.mark.parametrize(
    "name",
    [
        "r1/link",
        "r1/folder/passwd",
        "r1/pipe",
        "r1",
        "r1/../../job.log",
        "/etc/passwd",
        "",
        "no",
        "r1/a\0",
    ],
)
async def test_nothing_but_the_jobs_own_plain_files_can_be_read(bench, name: str) -> None:
    backend = bench.backend(LEAVES_FILES)
    workload = await bench.launch(backend)
    await ended(backend, workload)
    with pytest.raises(BackendError):
        [chunk async for chunk in backend.read_artifact(workload, name)]


async def test_services_that_reach_the_same_workloads_name_the_same_place(bench) -> None:
    assert await bench.backend().place() == await bench.backend().place() != ""


async def test_a_backend_that_can_launch_says_so(bench) -> None:
    backend = bench.backend()
    await backend.adopt()
    await backend.check_usable()


async def test_twenty_jobs_at_once_each_have_their_own_log_and_end(bench) -> None:
    backend = bench.backend('echo "$CALL_ID"; exit "$CALL_ID"')

    async def said_and_ended(number: int) -> tuple[str, int | None]:
        job_id = bench.job_id()
        request = LaunchRequest(job_id, JobType.RECORDING, "runner", {"call_id": str(number)})
        workload = await backend.launch(request)
        bench.launched.append(workload)
        bench.job_ids.append(job_id)
        end = await ended(backend, workload)
        return await whole_log(backend, workload), end.exit_code

    numbers = range(1, 21)
    found = await asyncio.gather(*map(said_and_ended, numbers))
    assert found == [(f"{number}\n", number) for number in numbers]
    assert set(await backend.adopt()) == set(bench.job_ids)


async def test_a_job_is_told_after_which_time_it_will_be_stopped(bench) -> None:
    backend = bench.backend("env")
    request = LaunchRequest(bench.job_id(), JobType.RECORDING, "runner", {}, max_duration_s=3600)
    workload = await backend.launch(request)
    bench.launched.append(workload)
    await ended(backend, workload)
    lines = (await whole_log(backend, workload)).splitlines()
    assert "MAX_DURATION_S=3600" in lines
    assert "STOP_GRACE_S=300" in lines


TAKES_TOO_MUCH = "echo ready; x=$(head -c 600000000 /dev/zero | tr '\\0' x); sleep 60"


async def test_a_job_that_takes_too_much_memory_is_killed_and_it_is_said(bench) -> None:
    backend = bench.backend(TAKES_TOO_MUCH)
    workload = await bench.launch(backend)
    if bench.enforce_memory is not None:
        await said(backend, workload, "ready")
        bench.enforce_memory(workload)
    seen = await ended(backend, workload)
    assert seen.exit_code == 137
    assert "memory" in seen.detail.lower() or "OOM" in seen.detail
