"""Two services as real processes on one PostgreSQL: what one knows the other answers, and takes over."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

JOB = {
    "type": "recording",
    "runner": "mattermost/calls-recorder:v0.8.13",
    "max_duration_sec": 600,
    "input_data": {"call_id": "c", "post_id": "p", "auth_token": "hidden-token"},
}
SCRIPT = "echo ready; while [ ! -e $DATA_DIR/go ]; do sleep 0.02; done; echo done"
TAKE_OVER_S = 15.0


def _let_jobs_end(directory: Path) -> None:
    for path in directory.glob("jobs/*/data"):
        (path / "go").touch()


@pytest.fixture
async def replicas(postgres: Any, start_replica: Any, tmp_path: Path) -> AsyncIterator[list[Any]]:
    environ = {
        "database": postgres.new_database(),
        "JOBS_APITYPE": "process",
        "JOBS_PROCESS_JOBSDIR": f"{tmp_path}/jobs",
        "JOBS_PROCESS_RECORDERCOMMAND": json.dumps(["/bin/sh", "-c", SCRIPT]),
    }
    yield await asyncio.gather(*(start_replica(**environ) for _ in range(2)))
    _let_jobs_end(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_the_survivor_of_a_kill_takes_over_in_time(
    replicas: list[Any], tmp_path: Path
) -> None:
    one, two = replicas
    job_id = await one.create(**JOB)
    bearer = {"Authorization": f"Bearer {await one.login()}"}
    seen = await two.http.get(f"/jobs/{job_id}", headers=bearer, auth=None)
    assert seen.status_code == 200, "the other knows the session and the job"

    await one.end(signal.SIGKILL)
    killed_s = time.monotonic()
    line = await two.line("supervisor.taken_over")
    took_s = time.monotonic() - killed_s
    assert job_id in line
    assert took_s < TAKE_OVER_S

    (tmp_path / "jobs" / job_id / "data" / "go").touch()
    await two.line("job.finished")
    ended = await two.job(job_id)
    assert ended["stop_at"] > 0
