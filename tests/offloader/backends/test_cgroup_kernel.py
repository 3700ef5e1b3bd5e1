"""Control groups of the kernel around real process jobs: entered, killed as a whole, removed, found again.

A hierarchy of its own is mounted, without controllers, since a host's own hierarchy may have them: limits are
not seen at work here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from offloader.backends.base import LaunchRequest, Observation, Phase
from offloader.backends.cgroup import GroupLimits, JobGroups
from offloader.backends.cpu_priority import POST_CALL
from offloader.backends.process import ProcessBackend
from offloader.backends.shim import job_group
from offloader.backends.shim.process_table import start_ticks
from offloader.models import JobType, Workload
from offloader.settings import ProcessSettings

JOB_ID = "aaaaaaaaaaaa"
FOREVER = "while true; do sleep 0.02; done"


@pytest.fixture
def base(tmp_path: Path, engine_missing: Callable[[str, str], None]) -> Iterator[Path]:
    """A group with a `service` in it, as after the claim."""
    mount = tmp_path / "cgroup"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "cgroup2", "none", mount], capture_output=True, timeout=10, check=False
    )
    if done.returncode:
        engine_missing("cgroup2", f"cannot mount it: {done.stderr.decode(errors='replace')}")
    group = mount / f"{tmp_path.name}-{os.getpid()}"  # all mounts show the one hierarchy
    try:
        (group / "service").mkdir(parents=True)
        yield group
    finally:
        for place in (*group.glob("*/"), group):
            job_group.kill(str(place))
            job_group.remove(str(place))
        subprocess.run(["umount", mount], timeout=10, check=True)


Start = Callable[[str], ProcessBackend]


@pytest.fixture
async def start(tmp_path: Path, base: Path) -> AsyncIterator[Start]:
    """A service that has just started, with groups."""
    made: list[ProcessBackend] = []

    def one(script: str = "true") -> ProcessBackend:
        command = ("/bin/sh", "-c", script)
        settings = ProcessSettings(tmp_path / "jobs", "", command, command, 300.0, 64 * 1024)
        backend = ProcessBackend(
            settings,
            environ=os.environ,
            claim_groups=lambda limits: JobGroups(base, frozenset(), limits),
        )
        made.append(backend)
        return backend

    yield one
    for backend in made:
        await backend.aclose()


async def launch(backend: ProcessBackend) -> Workload:
    await backend.adopt()
    return await backend.launch(LaunchRequest(JOB_ID, JobType.RECORDING, "runner", {}))


async def until(
    backend: ProcessBackend, workload: Workload, wanted: Callable[[Observation], bool]
) -> Observation:
    async with asyncio.timeout(25):
        while not wanted(observation := await backend.poll(workload)):
            await asyncio.sleep(0.01)
    return observation


def text_of(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


async def number_in(path: Path) -> int:
    async with asyncio.timeout(25):
        while not (text := text_of(path)):
            await asyncio.sleep(0.01)
    return int(text)


def members(group: Path) -> set[int]:
    return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}


async def gone(*pids: int) -> None:
    async with asyncio.timeout(25):
        while any(start_ticks(pid) is not None for pid in pids):
            await asyncio.sleep(0.01)


async def test_a_job_and_what_it_starts_are_in_its_group_and_the_shim_is_not(start, base) -> None:
    backend = start(f"setsid sleep 300 & echo $! > sleeper; echo $$ > child; {FOREVER}")
    workload = await launch(backend)
    group = base / f"job-{JOB_ID}"
    directory = Path(str(workload.reference["directory"]))
    job = {await number_in(directory / "child"), await number_in(directory / "sleeper")}
    await until(backend, workload, lambda o: o.phase is Phase.RUNNING)  # the shim has gone home
    assert job <= members(group)
    assert workload.reference["shim_pid"] in members(base / "service")
    assert job_group.populated(str(group))
    await backend.stop(workload, grace_s=0)
    await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    await gone(*job)
    async with asyncio.timeout(25):
        while group.exists():  # removed by the shim, after its report
            await asyncio.sleep(0.01)


async def test_the_last_kill_reaches_a_whole_group_whose_shim_is_gone(start, base) -> None:
    script = f"trap '' TERM; setsid sleep 300 & echo $! > sleeper; echo $$ > child; {FOREVER}"
    backend = start(script)
    workload = await launch(backend)
    directory = Path(str(workload.reference["directory"]))
    job = [await number_in(directory / "child"), await number_in(directory / "sleeper")]
    # The job may run before its shim has written down who it is.
    await until(backend, workload, lambda o: o.phase is Phase.RUNNING)
    os.kill(int(workload.reference["shim_pid"]), signal.SIGKILL)
    later = start()
    adopted = (await later.adopt())[JOB_ID]
    await until(later, adopted, lambda o: "shim is gone" in o.detail)
    assert (base / f"job-{JOB_ID}").exists(), "a group in which something runs is not swept"
    await later.stop(adopted, grace_s=0.1)
    await until(later, adopted, lambda o: o.phase is Phase.LOST)
    await gone(*job)
    assert not (base / f"job-{JOB_ID}").exists()


async def test_what_shim_and_job_leave_behind_is_killed_and_their_group_removed(start) -> None:
    backend = start(f"setsid sleep 300 & echo $! > sleeper; echo $$ > child; {FOREVER}")
    workload = await launch(backend)
    directory = Path(str(workload.reference["directory"]))
    sleeper, child = (
        await number_in(directory / "sleeper"),
        await number_in(directory / "child"),
    )
    await until(backend, workload, lambda o: o.phase is Phase.RUNNING)
    os.kill(int(workload.reference["shim_pid"]), signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    await until(backend, workload, lambda o: o.phase is Phase.LOST)
    await gone(sleeper)


async def test_a_job_without_a_group_of_its_own_runs_all_the_same(start, base) -> None:
    backend = start("true")
    await backend.adopt()
    (base / "service").rmdir()  # so that the shim cannot go back, nor be told apart
    workload = await backend.launch(LaunchRequest(JOB_ID, JobType.RECORDING, "runner", {}))
    ended = await until(backend, workload, lambda o: o.phase is Phase.EXITED)
    assert ended.exit_code == 0


async def test_groups_that_ended_jobs_left_are_removed_at_the_start(start, base) -> None:
    (base / "job-bbbbbbbbbbbb").mkdir()
    await start().adopt()
    assert not (base / "job-bbbbbbbbbbbb").exists()


def test_limits_without_a_controller_are_not_written(base: Path) -> None:
    groups = JobGroups(base, frozenset(), GroupLimits(1 << 30, 2.0, 64))
    assert groups.make("x", POST_CALL).is_dir()
    assert not groups.limits_memory
