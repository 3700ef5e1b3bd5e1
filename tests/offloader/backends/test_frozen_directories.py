"""Jobs that the release before has begun are adopted, those of a later one are left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from offloader.backends.base import Phase
from offloader.backends.process import ProcessBackend
from offloader.backends.shim.json_file import FORMAT
from offloader.backends.shim.process_table import boot_id, start_ticks
from offloader.errors import BackendError
from offloader.settings import ProcessSettings

FROZEN = Path(__file__).parents[2] / "fixtures" / "job_directories" / "v1"
RECORDING, TRANSCRIPTION = "q1w2e3r4t5z6", "q1w2e3r4t5z7"


@pytest.fixture
def jobs_dir(tmp_path: Path) -> Path:
    return shutil.copytree(FROZEN, tmp_path / "jobs")


@pytest.fixture
def backend(jobs_dir: Path) -> ProcessBackend:
    settings = ProcessSettings(jobs_dir, "", ("true",), ("true",), 300.0, 64 * 1024)
    return ProcessBackend(settings, environ=os.environ)


@pytest.fixture
def job_process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


async def test_jobs_that_died_with_the_release_before_are_found_with_their_results(
    backend: ProcessBackend,
) -> None:
    found = await backend.adopt()
    assert set(found) == {RECORDING, TRANSCRIPTION}
    for workload in found.values():
        observation = await backend.poll(workload)
        assert (observation.phase, observation.unpublished) == (Phase.LOST, True)
        assert [chunk async for chunk in backend.logs(workload)]
    names = [artifact.name for artifact in await backend.artifacts(found[RECORDING])]
    assert "abcdefghijklmnopqrstuvwxyr/recording.part.mp4" in names


async def test_a_job_of_the_release_before_that_runs_is_watched_and_stopped(
    backend: ProcessBackend, jobs_dir: Path, job_process: subprocess.Popen[bytes]
) -> None:
    pid = job_process.pid
    ticks = start_ticks(pid)
    running = {"shim_pid": pid, "child_pid": pid, "boot_id": boot_id()}
    running |= {"shim_start_ticks": ticks, "child_start_ticks": ticks}
    change(jobs_dir / RECORDING / "shim.json", **running)
    workload = (await backend.adopt())[RECORDING]
    assert (await backend.poll(workload)).phase is Phase.RUNNING
    await backend.stop(workload, grace_s=600)
    assert job_process.wait(60) == -signal.SIGTERM
    assert (await backend.poll(workload)).phase is Phase.LOST


@pytest.mark.documents("a-process-job-of-a-later-release")
async def test_a_job_of_a_later_release_is_found_and_neither_judged_nor_removed(
    backend: ProcessBackend,
    jobs_dir: Path,
    job_process: subprocess.Popen[bytes],
    documented,
) -> None:
    path = jobs_dir / RECORDING / "shim.json"
    change(path, format=FORMAT + 1, shim_pid=job_process.pid, boot_id=boot_id())
    found = await backend.adopt()
    assert set(found) == {RECORDING, TRANSCRIPTION}
    with pytest.raises(BackendError) as refused:
        await backend.poll(found[RECORDING])
    documented("a-process-job-of-a-later-release", str(refused.value))
    for touch in (backend.remove(found[RECORDING]), backend.stop(found[RECORDING], grace_s=0)):
        with pytest.raises(BackendError):
            await touch
    assert path.exists()
    assert job_process.poll() is None
    assert (await backend.poll(found[TRANSCRIPTION])).phase is Phase.LOST
