"""What becomes of the jobs that the offloader's process backend starts: their directories tell.

Reads `shim.json` and `exit.json` as docs/job-contract.md describes them, and the metrics in `job.log`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from foundation.process_stats import ProcessStats, read_process_stats
from testbed.processes import Death, describe_exit, process_state

NAMES: Final = {"recording": "recorder", "transcribing": "transcriber"}


@dataclass(frozen=True, slots=True)
class JobProcess:
    """One job of the process backend."""

    name: str
    """`recorder` or `transcriber`."""
    directory: Path
    pid: int | None
    exit: dict[str, Any] | None
    """`exit.json`, when the job has ended."""
    job_id: str = ""
    """As the job service knows it."""

    @property
    def log(self) -> Path:
        return self.directory / "job.log"

    @property
    def ended(self) -> bool:
        """Nothing of it runs any more."""
        return self.exit is not None or (
            self.pid is not None and process_state(self.pid) in ("Z", "X", "")
        )


def find_jobs(*jobs_dirs: Path) -> list[JobProcess]:
    """Every job that was started in `jobs_dirs`, in order of their start."""
    jobs: list[tuple[float, JobProcess]] = []
    for path in chain.from_iterable(each.glob("*/shim.json") for each in jobs_dirs):
        shim = _read(path)
        if shim is None or shim.get("job_type") not in NAMES:
            continue
        job = JobProcess(
            name=NAMES[shim["job_type"]],
            directory=path.parent,
            pid=shim.get("child_pid"),
            exit=_read(path.parent / "exit.json"),
            job_id=path.parent.name,
        )
        jobs.append((float(shim.get("started_at_s") or 0), job))
    return [job for _, job in sorted(jobs, key=lambda item: item[0])]


def death_of(job: JobProcess) -> Death | None:
    """How `job` died, or None while it runs and when it ended with exit code 0."""
    if job.exit is None:
        if not job.ended:
            return None
        # The shim writes exit.json within milliseconds, unless it was killed too.
        return Death(f"the {job.name}", "is gone without an exit code", job.log)
    number, code = job.exit.get("signal"), job.exit.get("exit_code")
    if number is not None:
        return Death(f"the {job.name}", describe_exit(-int(number)), job.log)
    if code == 0:
        return None
    if code is None:
        reason = job.exit.get("error") or "could not be started"
        return Death(f"the {job.name}", f"could not be started: {reason}", job.log)
    return Death(f"the {job.name}", describe_exit(int(code)), job.log)


def job_stats(job: JobProcess) -> ProcessStats | None:
    """CPU and memory: from `exit.json` once there, else as of now; None when unknown."""
    if job.exit is not None and "total_cpu_s" in job.exit:
        peak = int(job.exit.get("max_rss_bytes", 0))
        return ProcessStats(cpu_s=float(job.exit["total_cpu_s"]), rss_bytes=0, peak_rss_bytes=peak)
    if job.pid is None:
        return None
    try:
        return read_process_stats(job.pid)
    except ProcessLookupError:
        return None


def log_events(job: JobProcess, event: str) -> Iterator[dict[str, Any]]:
    """The JSON lines of the job's log with that `event`, oldest first."""
    try:
        text = job.log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        if event in line:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and record.get("event") == event:
                yield record


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
