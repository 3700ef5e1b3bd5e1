"""The service and a shim: waiting for one that starts, doing the duty of one that is gone. It blocks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from offloader.backends.process_files import ProcessIdentity, ShimFile, read_json, read_shim_file
from offloader.backends.process_observation import MEMORY_TEXTS
from offloader.backends.shim import job_group

_SHIM_START_S: Final = 2.0
"""How long `stop` and `lower` wait for a shim that is just starting to tell of itself (usual: 15 ms)."""


def await_shim_file(directory: Path, shim: ProcessIdentity) -> ShimFile | None:
    """`shim.json`, which tells whom there is to signal; a shim that is just starting gets a moment."""
    give_up_s = time.monotonic() + _SHIM_START_S
    while (files := read_shim_file(directory)) is None:
        if not shim.alive or time.monotonic() > give_up_s:
            return None
        time.sleep(0.01)
    return files


def kill_when_due(directory: Path, files: ShimFile) -> None:
    """Do the shim's duty for a child that has lost it."""
    stop = read_json(directory / "stop.json")
    if stop is not None and time.monotonic() >= float(stop["kill_at_monotonic_s"]):
        files.kill_job()


def end_group(files: ShimFile | None) -> str:
    """Do the shim's duty for the group of a job of which nothing runs any more; why the kernel killed it, or
    nothing."""
    if files is None or files.group is None:
        return ""
    group = str(files.group)
    whose = job_group.killed_for_memory(group)
    job_group.kill(group)
    job_group.remove(group)
    return MEMORY_TEXTS.get(whose or "", "")
