"""Control groups for jobs that are processes: claimed once, and put upon the jobs that run already."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from foundation.logs import get_logger
from offloader.backends import cpu_priority
from offloader.backends.cgroup import GroupLimits, JobGroups, NotDelegated
from offloader.backends.process_files import read_shim_file
from offloader.errors import BackendError
from offloader.settings import ProcessSettings

log = get_logger()


def take_groups(
    settings: ProcessSettings, claim: Callable[[GroupLimits], JobGroups]
) -> JobGroups | None:
    """Groups with the settings' limits, by `claim`; None: this process may have none.

    Once per process; blocks.
    """
    limits = GroupLimits(settings.memory_max_bytes, settings.cpus, settings.pids)
    try:
        groups = claim(limits)
        groups.release_at_end()
    except (NotDelegated, OSError) as error:
        log.info("jobs.no_groups", reason=str(error))
        return None
    log.info("jobs.groups", controllers=sorted(groups.controllers), removed=groups.sweep())
    jobs_dir = settings.jobs_dir
    for path in (*jobs_dir.glob("*/shim.json"), *jobs_dir.glob("*/salvage-*/shim.json")):
        with contextlib.suppress(OSError, BackendError):
            _restrict(path.parent, groups)
    return groups


def _restrict(directory: Path, groups: JobGroups) -> None:
    """The job in `directory`, if it runs: to the limits of today, at the priority that it has."""
    files = read_shim_file(directory)
    if files is None or files.group is None or files.child is None or not files.child.alive:
        return
    nice = os.getpriority(os.PRIO_PROCESS, files.child.pid)
    groups.restrict(files.group, cpu_priority.at_nice(files.job_type, nice))
