"""A process job that uses more memory than it may is killed by its shim, alone, and the record says why."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from offloader.backends import shim
from offloader.backends.base import LaunchRequest, Phase
from offloader.backends.process import ProcessBackend
from offloader.models import JobType
from offloader.settings import ProcessSettings

MIB = 1024 * 1024
GROW = "x = bytearray(200_000_000); import time; time.sleep(60)"


def run_shim(directory: Path, command: list[str], *, memory_max_bytes: int) -> dict[str, object]:
    options = {
        "directory": str(directory),
        "job_id": "0" * 12,
        "job_type": "recording",
        "grace_s": 1,
        "log_max_bytes": 65536,
        "memory_max_bytes": memory_max_bytes,
    }
    shim_command = [sys.executable, "-I", "-S", os.path.dirname(shim.__file__)]
    subprocess.run(
        [*shim_command, json.dumps(options), *command],
        check=True,
        timeout=25,
        start_new_session=True,
    )
    document = json.loads((directory / "exit.json").read_text())
    assert isinstance(document, dict)
    return document


def test_a_job_above_its_limit_is_killed_and_the_size_is_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", GROW]
    ended = run_shim(tmp_path, command, memory_max_bytes=100 * MIB)
    assert ended["signal"] == 9
    size = ended["killed_at_rss_bytes"]
    assert isinstance(size, int)
    assert size > 100 * MIB


def test_what_it_has_started_counts_too(tmp_path: Path) -> None:
    script = f'{sys.executable} -I -S -c "{GROW}" & wait'
    ended = run_shim(tmp_path, ["/bin/sh", "-c", script], memory_max_bytes=100 * MIB)
    assert ended["signal"] == 9
    assert ended["killed_at_rss_bytes"]


@pytest.mark.parametrize("limit", [0, 1000 * MIB])
def test_a_job_within_its_limit_or_without_one_is_left_alone(tmp_path: Path, limit: int) -> None:
    code = "x = bytearray(200_000_000); import time; time.sleep(1.5)"
    ended = run_shim(tmp_path, [sys.executable, "-I", "-S", "-c", code], memory_max_bytes=limit)
    assert ended["exit_code"] == 0
    assert ended["killed_at_rss_bytes"] is None


async def test_the_record_says_why_it_was_killed(tmp_path: Path) -> None:
    settings = ProcessSettings(
        jobs_dir=tmp_path,
        models_dir="",
        recorder_command=(sys.executable, "-I", "-S", "-c", GROW),
        transcriber_command=("true",),
        stop_grace_s=1,
        log_max_bytes=65536,
        memory_max_bytes=100 * MIB,
    )
    backend = ProcessBackend(settings, environ={})
    workload = await backend.launch(LaunchRequest("0" * 12, JobType.RECORDING, "r", {}))
    async with asyncio.timeout(25):
        while (observation := await backend.poll(workload)).phase is not Phase.EXITED:
            await asyncio.sleep(0.05)
    assert observation.exit_code == 137
    assert "jobs.process.memory_max" in observation.detail
    await backend.aclose()
