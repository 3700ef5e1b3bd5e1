"""What a workload of the process backend names: a directory of this host, and the shim that works there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from offloader.backends.process_files import ProcessIdentity, read_shim_file
from offloader.errors import BackendError, FilesGone
from offloader.models import JOB_ID, Workload

BACKEND: Final = "process"
NOBODY: Final = ProcessIdentity(0, 0, "")
"""No process of this host."""
_ATTEMPT: Final = re.compile(r"salvage-[0-9]+")


def process_workload(directory: Path, shim: ProcessIdentity) -> Workload:
    """The workload of a job whose files are in `directory`."""
    reference: dict[str, str | int] = {
        "directory": str(directory),
        "shim_pid": shim.pid,
        "shim_start_ticks": shim.start_ticks,
        "boot_id": shim.boot_id,
    }
    return Workload(BACKEND, reference)


def stranger(job_id: str) -> Workload:
    """A job of another host, of which nothing but its ID is known."""
    return process_workload(Path("/nowhere") / job_id, NOBODY)


def directory_of_a_job(workload: Workload) -> Path:
    """As it is named; of another host, perhaps. Its name is the job's ID everywhere.

    Raises:
        BackendError: it is not.
    """
    directory = _named(workload)
    if not JOB_ID.fullmatch(directory.name):
        raise BackendError(f"{directory}: should end in the ID of a job")
    return directory


def own_directory(workload: Workload, jobs_dir: Path) -> Path:
    """Where its files are: nothing else of this host is read, removed or signalled, whoever names it.

    One that does not exist is as good as any other: it is where another host has its jobs, perhaps.

    Raises:
        FilesGone: it is no directory of a job, or of an attempt on one, below `jobs_dir`.
    """
    directory = _named(workload)
    real_dir = os.path.realpath(jobs_dir)
    name, _, attempt = os.path.relpath(os.path.realpath(directory), real_dir).partition("/")
    of_a_job = JOB_ID.fullmatch(name) and (not attempt or _ATTEMPT.fullmatch(attempt))
    if not of_a_job and os.path.lexists(directory):
        raise FilesGone(
            f"{directory}: should be the directory of a job below jobs.process.jobs_dir ({real_dir})"
        )
    return directory


def shim_of(workload: Workload, directory: Path) -> ProcessIdentity:
    """As its own file tells; a shim that has not written it yet is the one that was started."""
    if (files := read_shim_file(directory)) is not None:
        return files.shim
    reference = workload.reference
    return ProcessIdentity(
        int(reference["shim_pid"]), int(reference["shim_start_ticks"]), str(reference["boot_id"])
    )


def _named(workload: Workload) -> Path:
    return Path(str(workload.reference["directory"]))
