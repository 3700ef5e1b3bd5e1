"""What is particular to the process backend: the shim, its files, process IDs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from offloader.backends.base import LaunchRequest, Observation, Phase
from offloader.backends.cpu_priority import LIVE, POST_CALL
from offloader.backends.process import ProcessBackend
from offloader.backends.shim.capped_log import CappedLog
from offloader.backends.shim.process_table import boot_id, start_ticks
from offloader.errors import BackendError, FilesGone
from offloader.models import JobType, Workload
from offloader.settings import ProcessSettings

JOB_ID = "aaaaaaaaaaaa"
Launch = Callable[..., Awaitable[tuple[ProcessBackend, Workload]]]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    launched: list[tuple[ProcessBackend, Workload]] = []

    async def start(
        script: str, job_type: JobType = JobType.RECORDING, own: bool = False, **added: str
    ) -> tuple[ProcessBackend, Workload]:
        command = ("/bin/sh", "-c", script, *(("-m", "jobs.recorder") if own else ()))
        settings = ProcessSettings(tmp_path / "jobs", "", command, command, 300.0, 64 * 1024)
        backend = ProcessBackend(settings, environ=os.environ)
        input_data = {"auth_token": "t0ken-of-somebody", "transcribe_tasks_url": "a client's"}
        request = LaunchRequest(JOB_ID, job_type, "runner", input_data, added=added)
        launched.append((backend, await backend.launch(request)))
        return launched[-1]

    yield start
    for backend, workload in launched:
        await backend.stop(workload, grace_s=0)
        await until(backend, workload, lambda o: o.phase in (Phase.EXITED, Phase.LOST))


async def until(
    backend: ProcessBackend, workload: Workload, wanted: Callable[[Observation], bool]
) -> Observation:
    async with asyncio.timeout(25):
        while not wanted(observation := await backend.poll(workload)):
            await asyncio.sleep(0.01)
    return observation


async def running(backend: ProcessBackend, workload: Workload) -> dict[str, int]:
    """`shim.json` of a job that runs."""
    await until(backend, workload, lambda o: o.phase is Phase.RUNNING)
    document: dict[str, int] = json.loads((directory(workload) / "shim.json").read_text())
    return document


def directory(workload: Workload) -> Path:
    return Path(str(workload.reference["directory"]))


FOREVER = "while true; do sleep 0.02; done"


async def test_the_shim_tells_who_runs(launch: Launch) -> None:
    backend, workload = await launch(FOREVER)
    document = await running(backend, workload)
    assert document["job_id"] == JOB_ID
    assert document["job_type"] == "recording"
    assert document["boot_id"] == boot_id()
    for who in ("shim", "child"):
        assert document[f"{who}_start_ticks"] == start_ticks(document[f"{who}_pid"])
    shim, child = document["shim_pid"], document["child_pid"]
    assert (os.getsid(shim), os.getsid(child), os.getpgid(child)) == (shim, shim, child)


async def test_what_the_service_adds_reaches_the_job_and_no_clients_word_for_it(
    launch: Launch,
) -> None:
    script = 'echo "to $TRANSCRIBE_TASKS_URL"; exec sleep 300'
    backend, workload = await launch(script, TRANSCRIBE_TASKS_URL="ours")
    await running(backend, workload)
    await logged(workload, "to ours")


@pytest.mark.documents("a-place-that-is-no-jobs")
@pytest.mark.parametrize(
    "elsewhere", ["other/aaaaaaaaaaaa", "jobs/aaaaaaaaaaaa/data/x", "jobs/..", "jobs"]
)
async def test_nothing_is_touched_that_is_no_directory_of_a_job(
    launch: Launch, tmp_path: Path, elsewhere: str, documented: Callable[[str, str], None]
) -> None:
    backend, workload = await launch("exit 0")
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    target = tmp_path / elsewhere
    target.mkdir(parents=True, exist_ok=True)
    (target / "job.log").write_bytes(b"somebody's")
    named = replace(workload, reference={**workload.reference, "directory": str(target)})
    asks: list[Callable[[], Awaitable[object]]] = [
        lambda: backend.poll(named),
        lambda: backend.stop(named, grace_s=1.0),
        lambda: backend.lower(named),
        lambda: backend.remove(named),
        lambda: backend.artifacts(named),
        lambda: anext(backend.logs(named)),
        lambda: anext(backend.follow(named)),
        lambda: anext(backend.read_artifact(named, "job.log")),
        lambda: backend.salvage(named, job_type=JobType.RECORDING, variables={}),
        lambda: backend.retranscribe(named, job_type=JobType.RECORDING, variables={}),
    ]
    for ask in asks:
        with pytest.raises(FilesGone) as refused:
            await ask()
        documented("a-place-that-is-no-jobs", str(refused.value))
    assert (target / "job.log").exists()


@pytest.mark.documents(
    "nothing-of-it-is-there", "nothing-is-left-to-be-published", "nothing-of-the-job-is-left"
)
async def test_where_another_host_has_its_jobs_there_is_nothing(
    launch: Launch, tmp_path: Path, documented: Callable[[str, str], None]
) -> None:
    backend, workload = await launch("exit 0")
    elsewhere = {**workload.reference, "directory": str(tmp_path / "far" / JOB_ID), "shim_pid": 0}
    named = replace(workload, reference=elsewhere)
    seen = await backend.poll(named)
    assert seen.phase is Phase.LOST
    documented("nothing-of-it-is-there", seen.detail)
    with pytest.raises(FilesGone) as gone:  # so that it is rescued from its copy
        await backend.salvage(named, job_type=JobType.RECORDING, variables={})
    documented("nothing-is-left-to-be-published", str(gone.value))
    with pytest.raises(BackendError) as refused:
        await backend.retranscribe(named, job_type=JobType.RECORDING, variables={})
    documented("nothing-of-the-job-is-left", str(refused.value))
    await backend.remove(named)


async def test_a_link_out_of_the_jobs_directory_is_not_followed(
    launch: Launch, tmp_path: Path
) -> None:
    backend, workload = await launch("exit 0")
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    (tmp_path / "other").mkdir()
    link = directory(workload) / "salvage-9"
    link.symlink_to(tmp_path / "other")
    with pytest.raises(BackendError, match="should be"):
        await backend.remove(
            replace(workload, reference={**workload.reference, "directory": str(link)})
        )
    assert (tmp_path / "other").exists()


async def test_only_the_jobs_own_processes_are_signalled_whoever_is_named(launch: Launch) -> None:
    backend, workload = await launch(f"trap 'exit 7' TERM; echo ready; {FOREVER}")
    await running(backend, workload)
    await logged(workload, "ready")
    other = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        mine = {"shim_pid": other.pid, "shim_start_ticks": start_ticks(other.pid) or 0}
        named = replace(workload, reference={**workload.reference, **mine})
        await backend.stop(named, grace_s=60.0)
        end = await until(backend, workload, lambda o: o.phase is Phase.EXITED)
        assert (end.exit_code, start_ticks(other.pid)) == (7, mine["shim_start_ticks"])
    finally:
        other.kill()
        await other.wait()


@pytest.mark.documents("a-place-that-is-no-jobs/2")
async def test_a_rescue_makes_a_directory_only_by_the_name_of_a_job(
    launch: Launch, tmp_path: Path, documented: Callable[[str, str], None]
) -> None:
    backend, workload = await launch("exit 0")
    named = replace(workload, reference={**workload.reference, "directory": f"{tmp_path}/.."})
    with pytest.raises(BackendError) as refused:
        await backend.rescue(named, job_type=JobType.RECORDING, result="r" * 26, variables={})
    documented("a-place-that-is-no-jobs/2", str(refused.value))


@pytest.mark.documents("the-job-is-still-at-work", "something-works-on-its-files")
async def test_while_something_is_at_work_nothing_else_is(
    launch: Launch, documented: Callable[[str, str], None]
) -> None:
    backend, workload = await launch(FOREVER)
    await running(backend, workload)
    with pytest.raises(BackendError) as refused:
        await backend.remove(workload)
    documented("the-job-is-still-at-work", str(refused.value))
    await backend.stop(workload, grace_s=0)
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    again = partial(backend.retranscribe, workload, job_type=JobType.RECORDING, variables={})
    first = await again()
    try:
        await until(backend, first, lambda o: o.phase is Phase.RUNNING)
        with pytest.raises(BackendError) as refused:
            await again()
        documented("something-works-on-its-files", str(refused.value))
    finally:
        await backend.stop(first, grace_s=0)
        await until(backend, first, lambda o: o.phase in (Phase.EXITED, Phase.LOST))


@pytest.mark.documents("a-process-that-lost-its-shim")
async def test_a_job_that_lost_its_shim_is_still_seen_and_stopped(
    launch: Launch, documented: Callable[[str, str], None]
) -> None:
    backend, workload = await launch(f"trap 'touch stopped; exit 0' TERM; echo ready; {FOREVER}")
    document = await running(backend, workload)
    await logged(workload, "ready")
    os.kill(document["shim_pid"], signal.SIGKILL)
    orphaned = await until(backend, workload, lambda o: bool(o.detail))
    assert orphaned.phase is Phase.RUNNING
    documented("a-process-that-lost-its-shim", orphaned.detail)
    await backend.stop(workload, grace_s=60)
    assert (await until(backend, workload, lambda o: o.phase is Phase.LOST)).exit_code is None
    assert (directory(workload) / "stopped").exists()


async def test_a_job_that_lost_its_shim_is_killed_after_the_grace(launch: Launch) -> None:
    backend, workload = await launch(f"trap '' TERM; echo ready; {FOREVER}")
    document = await running(backend, workload)
    await logged(workload, "ready")
    os.kill(document["shim_pid"], signal.SIGKILL)
    await until(backend, workload, lambda o: bool(o.detail))
    asked_s = time.monotonic()
    await backend.stop(workload, grace_s=0.3)
    await until(backend, workload, lambda o: o.phase is Phase.LOST)
    assert time.monotonic() - asked_s >= 0.3


@pytest.mark.documents("a-process-that-lost-its-shim/2")
async def test_what_a_dead_shim_and_a_dead_job_leave_is_killed(
    launch: Launch, documented: Callable[[str, str], None]
) -> None:
    backend, workload = await launch(f"sleep 300 & echo $! > grandchild; {FOREVER}")
    document = await running(backend, workload)
    path = directory(workload) / "grandchild"
    async with asyncio.timeout(25):
        while not path.exists() or not path.read_text().strip():
            await asyncio.sleep(0.01)
    grandchild = int(path.read_text())
    os.kill(document["shim_pid"], signal.SIGKILL)
    os.kill(document["child_pid"], signal.SIGKILL)
    lost = await until(backend, workload, lambda o: o.phase is Phase.LOST)
    documented("a-process-that-lost-its-shim/2", lost.detail)
    async with asyncio.timeout(25):
        while start_ticks(grandchild) is not None:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("lie", [{"shim_start_ticks": 1}, {"boot_id": "another boot"}])
async def test_a_process_id_that_somebody_else_has_now_is_not_the_job(
    launch: Launch, lie: dict[str, str | int]
) -> None:
    backend, workload = await launch(FOREVER)
    await running(backend, workload)
    path = directory(workload) / "shim.json"
    true_text = path.read_text()
    path.write_text(json.dumps(json.loads(true_text) | lie | {"child_start_ticks": 1}))
    imposter = replace(workload, reference={**workload.reference, **lie})
    try:
        assert (await backend.poll(imposter)).phase is Phase.LOST
        await backend.stop(imposter, grace_s=0)
    finally:
        path.write_text(true_text)
    assert (await backend.poll(workload)).phase is Phase.RUNNING


async def test_a_stop_that_the_shim_has_not_confirmed_yet_is_not_repeated(launch: Launch) -> None:
    script = "trap 'echo term' TERM; echo ready; while [ ! -e go ]; do sleep 0.02; done"
    backend, workload = await launch(script)
    await running(backend, workload)
    await logged(workload, "ready")
    await backend.stop(workload, grace_s=60)
    await logged(workload, "term")
    path = directory(workload) / "shim.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kill_at_monotonic_s": None}))
    await backend.stop(workload, grace_s=60)
    (directory(workload) / "go").touch()
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    assert (directory(workload) / "job.log").read_text() == "ready\nterm\n"


async def logged(workload: Workload, text: str) -> None:
    async with asyncio.timeout(25):
        while text not in (directory(workload) / "job.log").read_text():
            await asyncio.sleep(0.01)


async def test_the_token_is_in_no_file_and_on_no_command_line(launch: Launch) -> None:
    backend, workload = await launch(FOREVER)
    document = await running(backend, workload)
    for path in directory(workload).rglob("*"):
        assert path.is_dir() or b"t0ken" not in path.read_bytes()
    for who in ("shim_pid", "child_pid"):
        assert b"t0ken" not in (Path("/proc") / f"{document[who]}" / "cmdline").read_bytes()


async def test_our_own_program_gets_all_of_it_in_one_file_and_nothing_in_its_environment(
    launch: Launch,
) -> None:
    script = (
        f"env; cat $JOB_INPUT_FILE; echo; stat -c %a $JOB_INPUT_FILE; rm $JOB_INPUT_FILE; {FOREVER}"
    )
    backend, workload = await launch(script, own=True, COPIES_URL="file:///x")
    document = await running(backend, workload)
    await logged(workload, "600\n")
    *environment, told, mode = (directory(workload) / "job.log").read_text().splitlines()
    assert json.loads(told) == {"AUTH_TOKEN": "t0ken-of-somebody", "COPIES_URL": "file:///x"}
    assert mode == "600"
    assert f"DATA_DIR={directory(workload)}/data" in environment
    assert not any("t0ken" in line or "COPIES_URL" in line for line in environment)
    for who in ("shim_pid", "child_pid"):
        assert b"t0ken" not in (Path("/proc") / f"{document[who]}" / "environ").read_bytes()


async def test_an_input_that_its_job_never_read_goes_when_the_job_has_ended(launch: Launch) -> None:
    backend, workload = await launch("exit 1", own=True)
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    assert not (directory(workload) / "input.json").exists()


async def test_an_input_that_an_attempt_never_took_goes_when_the_next_one_starts(
    launch: Launch,
) -> None:
    backend, workload = await launch("exit 0", own=True)
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    left = directory(workload) / "salvage-1" / "input.json"
    left.parent.mkdir()  # by a service that was killed before it could start the shim
    left.write_text("{}")
    again = await backend.retranscribe(workload, job_type=JobType.RECORDING, variables={})
    await until(backend, again, lambda o: o.phase is Phase.EXITED)
    assert not left.exists()


async def test_nothing_is_removed_while_an_attempt_works_on_it(launch: Launch) -> None:
    backend, workload = await launch('test "$0" != retranscribe || exec sleep 60')
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    attempt = await backend.retranscribe(workload, job_type=JobType.RECORDING, variables={})
    await until(backend, attempt, lambda o: o.phase is Phase.RUNNING)
    for removes in (backend.remove, backend.erase):
        with pytest.raises(BackendError, match="still runs"):
            await removes(workload)
    assert (directory(workload) / "data").is_dir()
    await backend.stop(attempt, grace_s=0.0)
    await until(backend, attempt, lambda o: o.phase is Phase.EXITED)
    await backend.remove(workload)
    assert not directory(workload).exists()


async def test_everything_of_a_job_is_the_services_own(launch: Launch) -> None:
    backend, workload = await launch("umask; exit 0")
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    for path in (directory(workload), *directory(workload).rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


async def test_a_job_inherits_no_open_file_and_no_ignored_signal(launch: Launch) -> None:
    with open("/dev/null") as file:  # noqa: ASYNC230 - what is tested is that it does not leak
        os.set_inheritable(file.fileno(), True)
        backend, workload = await launch("ls /proc/$$/fd; exec grep Sig /proc/self/status")
        await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    lines = (directory(workload) / "job.log").read_text().split("\n")
    assert lines[:3] == ["0", "1", "2"]
    assert not lines[3].isdigit() or int(lines[3]) >= 10  # dash keeps its script's descriptor high
    masks = dict(line.split(":\t") for line in lines if line.startswith("Sig"))
    assert int(masks["SigBlk"], 16) == 0
    assert int(masks["SigIgn"], 16) & (1 << (signal.SIGPIPE - 1)) == 0


async def test_a_recorder_has_one_heap_for_all_its_threads(launch: Launch) -> None:
    backend, workload = await launch("env", JobType.RECORDING)
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    variables = (directory(workload) / "job.log").read_text().splitlines()
    assert "MALLOC_ARENA_MAX=1" in variables
    assert not any(variable.startswith("GLIBC_TUNABLES=") for variable in variables)


async def test_only_a_transcriber_gets_huge_pages_and_nobody_spinning_threads(
    launch: Launch,
) -> None:
    backend, workload = await launch("env", JobType.TRANSCRIBING)
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    variables = set((directory(workload) / "job.log").read_text().splitlines())
    assert variables >= {
        "GLIBC_TUNABLES=glibc.malloc.hugetlb=1",
        "OPENBLAS_NUM_THREADS=1",
        "OMP_NUM_THREADS=1",
        "PYTHONSAFEPATH=1",
        f"DATA_DIR={directory(workload)}/data",
    }


async def test_a_stop_waits_for_a_shim_that_gets_no_cpu(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offloader.backends.process_shim._SHIM_START_S", 0.0)
    backend, workload = await launch(FOREVER)
    shim = int(workload.reference["shim_pid"])
    os.kill(shim, signal.SIGSTOP)
    await backend.stop(workload, grace_s=60)
    os.kill(shim, signal.SIGCONT)
    ended = await until(backend, workload, lambda o: o.phase in (Phase.EXITED, Phase.LOST))
    assert (ended.phase, ended.exit_code) == (Phase.EXITED, 143)


async def test_a_shim_told_by_hand_to_end_passes_it_on(launch: Launch) -> None:
    backend, workload = await launch(f"trap 'exit 9' TERM; echo ready; {FOREVER}")
    document = await running(backend, workload)
    await logged(workload, "ready")
    os.kill(document["shim_pid"], signal.SIGTERM)
    assert (await until(backend, workload, lambda o: o.phase is Phase.EXITED)).exit_code == 9


async def test_usage_of_an_ended_job_is_known(launch: Launch) -> None:
    code = "x = bytearray(60_000_000); n = 0\nwhile n < 2_000_000: n += 1"
    backend, workload = await launch(f"exec {sys.executable} -I -S -c '{code}'")
    observation = await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    assert observation.usage["total_cpu_s"] > 0.01
    assert observation.usage["max_rss_bytes"] > 60_000_000


def test_a_full_disk_costs_log_lines_and_not_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = CappedLog(1000)

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.write(b"lost\n")
    log.write(b"kept\n")
    log.close()
    assert ((tmp_path / "job.log").read_text(), log.dropped_bytes) == ("kept\n", 5)


def test_a_line_without_end_does_not_grow_a_log_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = CappedLog(1000)
    for _ in range(40):
        log.write(b"x" * 50_000)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 500_000
    assert len(list(tmp_path.iterdir())) <= 3


@pytest.mark.parametrize("job_type", list(JobType))
async def test_a_live_job_has_the_priority_of_its_type_and_afterwards_that_of_all(
    launch: Launch, job_type: JobType
) -> None:
    backend, workload = await launch(FOREVER, job_type)
    child = (await running(backend, workload))["child_pid"]
    live, lowered = LIVE[job_type].nice, POST_CALL.nice
    async with asyncio.timeout(25):
        while os.getpriority(os.PRIO_PROCESS, child) != live:
            await asyncio.sleep(0.01)
    for _ in range(2):
        await backend.lower(workload)
        assert os.getpriority(os.PRIO_PROCESS, child) == lowered


async def test_a_job_leaves_no_core_dump(launch: Launch) -> None:
    backend, workload = await launch("ulimit -c; ulimit -Hc")
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    assert (directory(workload) / "job.log").read_text() == "0\n0\n"


@pytest.mark.documents(
    "the-jobs-directory-cannot-be-written",
    "the-jobs-directory-cannot-be-made",
    "the-directory-of-all-jobs-cannot-be-made",
    "a-process-that-cannot-be-started",
)
async def test_a_jobs_directory_of_no_use_is_named(
    tmp_path: Path, documented: Callable[[str, str], None]
) -> None:
    (tmp_path / "file").touch()
    command = ("/bin/true",)

    def backend(where: str) -> ProcessBackend:
        settings = ProcessSettings(tmp_path / where, "", command, command, 300.0, 64 * 1024)
        return ProcessBackend(settings, environ=os.environ)

    with pytest.raises(BackendError) as unusable:
        await backend("gone").check_usable()
    documented("the-jobs-directory-cannot-be-written", str(unusable.value))
    with pytest.raises(BackendError) as refused:
        await backend("file/jobs").launch(LaunchRequest(JOB_ID, JobType.RECORDING, "runner", {}))
    documented("the-jobs-directory-cannot-be-made", str(refused.value))
    with pytest.raises(BackendError) as refused:
        await backend("file/jobs").adopt()
    documented("the-directory-of-all-jobs-cannot-be-made", str(refused.value))
    much = {"x": "y" * 200_000}
    with pytest.raises(BackendError) as refused:
        await backend("jobs").launch(LaunchRequest(JOB_ID, JobType.RECORDING, "runner", much))
    documented("a-process-that-cannot-be-started", str(refused.value))
