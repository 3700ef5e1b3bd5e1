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
from pathlib import Path

import pytest

from offloader.backends.base import LaunchRequest, Observation, Phase
from offloader.backends.process import ProcessBackend
from offloader.backends.shim import CappedLog, boot_id, start_ticks
from offloader.models import JobType, Workload
from offloader.settings import ProcessSettings

JOB_ID = "aaaaaaaaaaaa"
Launch = Callable[..., Awaitable[tuple[ProcessBackend, Workload]]]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    launched: list[tuple[ProcessBackend, Workload]] = []

    async def start(
        script: str, job_type: JobType = JobType.RECORDING
    ) -> tuple[ProcessBackend, Workload]:
        command = ("/bin/sh", "-c", script)
        settings = ProcessSettings(tmp_path / "jobs", "", command, command, 300.0, 64 * 1024)
        backend = ProcessBackend(settings, environ=os.environ)
        input_data = {"auth_token": "t0ken-of-somebody"}
        request = LaunchRequest(JOB_ID, job_type, "runner", input_data)
        launched.append((backend, await backend.launch(request)))
        return launched[-1]

    yield start
    for backend, workload in launched:
        await backend.stop(workload, grace_s=0)
        await until(backend, workload, lambda o: o.phase in (Phase.EXITED, Phase.LOST))


async def until(
    backend: ProcessBackend, workload: Workload, wanted: Callable[[Observation], bool]
) -> Observation:
    async with asyncio.timeout(10):
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


async def test_a_job_that_lost_its_shim_is_still_seen_and_stopped(launch: Launch) -> None:
    backend, workload = await launch(f"trap 'touch stopped; exit 0' TERM; {FOREVER}")
    document = await running(backend, workload)
    os.kill(document["shim_pid"], signal.SIGKILL)
    orphaned = await until(backend, workload, lambda o: bool(o.detail))
    assert (orphaned.phase, "shim is gone" in orphaned.detail) == (Phase.RUNNING, True)
    await backend.stop(workload, grace_s=60)
    assert (await until(backend, workload, lambda o: o.phase is Phase.LOST)).exit_code is None
    assert (directory(workload) / "stopped").exists()


async def test_a_job_that_lost_its_shim_is_killed_after_the_grace(launch: Launch) -> None:
    backend, workload = await launch(f"trap '' TERM; {FOREVER}")
    document = await running(backend, workload)
    os.kill(document["shim_pid"], signal.SIGKILL)
    await until(backend, workload, lambda o: bool(o.detail))
    asked_s = time.monotonic()
    await backend.stop(workload, grace_s=0.3)
    await until(backend, workload, lambda o: o.phase is Phase.LOST)
    assert time.monotonic() - asked_s >= 0.3


async def test_what_a_dead_shim_and_a_dead_job_leave_is_killed(launch: Launch) -> None:
    backend, workload = await launch(f"sleep 300 & echo $! > grandchild; {FOREVER}")
    document = await running(backend, workload)
    path = directory(workload) / "grandchild"
    async with asyncio.timeout(10):
        while not path.exists() or not path.read_text().strip():
            await asyncio.sleep(0.01)
    grandchild = int(path.read_text())
    os.kill(document["shim_pid"], signal.SIGKILL)
    os.kill(document["child_pid"], signal.SIGKILL)
    await until(backend, workload, lambda o: o.phase is Phase.LOST)
    async with asyncio.timeout(10):
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
    async with asyncio.timeout(10):
        while text not in (directory(workload) / "job.log").read_text():
            await asyncio.sleep(0.01)


async def test_the_token_is_in_no_file_and_on_no_command_line(launch: Launch) -> None:
    backend, workload = await launch(FOREVER)
    document = await running(backend, workload)
    for path in directory(workload).rglob("*"):
        assert path.is_dir() or b"t0ken" not in path.read_bytes()
    for who in ("shim_pid", "child_pid"):
        assert b"t0ken" not in (Path("/proc") / f"{document[who]}" / "cmdline").read_bytes()


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


async def test_a_shim_told_by_hand_to_end_passes_it_on(launch: Launch) -> None:
    backend, workload = await launch(f"trap 'exit 9' TERM; {FOREVER}")
    document = await running(backend, workload)
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
