from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from testbed.job_watch import JobProcess, death_of, find_jobs, job_stats, log_events

GONE_PID = 2**22 - 1
"""Above the usual limit of process ids."""


def _job(
    jobs_dir: Path, kind: str = "recording", *, pid: int = GONE_PID, started_at_s: float = 1.0
) -> Path:
    directory = jobs_dir / f"{kind}-{pid}"
    directory.mkdir()
    shim = {"job_type": kind, "child_pid": pid, "started_at_s": started_at_s}
    (directory / "shim.json").write_text(json.dumps(shim))
    return directory


def _exit(directory: Path, **facts: Any) -> None:
    (directory / "exit.json").write_text(json.dumps(facts))


def test_jobs_are_found_in_order_of_their_start(tmp_path: Path) -> None:
    _job(tmp_path, "transcribing", started_at_s=2)
    _job(tmp_path, "recording", started_at_s=1)
    assert [job.name for job in find_jobs(tmp_path)] == ["recorder", "transcriber"]


def test_a_half_written_shim_file_is_no_job_yet(tmp_path: Path) -> None:
    (_job(tmp_path) / "shim.json").write_text('{"job_')
    assert find_jobs(tmp_path) == []


def _only(tmp_path: Path) -> JobProcess:
    (job,) = find_jobs(tmp_path)
    return job


def test_a_running_job_is_not_dead(tmp_path: Path) -> None:
    _job(tmp_path, pid=os.getpid())
    job = _only(tmp_path)
    assert death_of(job) is None
    stats = job_stats(job)
    assert stats is not None
    assert stats.peak_rss_bytes > 0


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"exit_code": None, "signal": 9}, "the recorder was killed by SIGKILL"),
        ({"exit_code": 1}, "the recorder ended with exit code 1"),
        ({"exit_code": None, "error": "no such file"}, "could not be started: no such file"),
    ],
)
def test_a_bad_end_is_a_death_that_names_job_and_cause(
    tmp_path: Path, facts: dict[str, Any], told: str
) -> None:
    _exit(_job(tmp_path), **facts)
    assert told in str(death_of(_only(tmp_path)))


def test_exit_code_0_is_no_death(tmp_path: Path) -> None:
    _exit(_job(tmp_path), exit_code=0, total_cpu_s=1.5, max_rss_bytes=1000)
    job = _only(tmp_path)
    assert death_of(job) is None
    stats = job_stats(job)
    assert stats is not None
    assert (stats.cpu_s, stats.peak_rss_bytes) == (1.5, 1000)


def test_a_job_that_is_gone_without_an_exit_file_is_dead(tmp_path: Path) -> None:
    _job(tmp_path, "transcribing")
    assert "the transcriber is gone" in str(death_of(_only(tmp_path)))


def test_events_of_the_log_are_found_between_other_lines(tmp_path: Path) -> None:
    directory = _job(tmp_path)
    (directory / "job.log").write_text(
        'Traceback\n{"event":"started","joined_after_s":0.7}\n{"event":"metrics","started":1}\n{"star'
    )
    assert list(log_events(_only(tmp_path), "started")) == [
        {"event": "started", "joined_after_s": 0.7}
    ]
