"""How many processors this process may really use."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """By affinity and by the CPU quota of the control group (cgroup version 2), at least 1.

    A container with two processors' worth of time on a host of 64 sees all of them, and sixty threads in
    it wait for each other. `root`: where `proc` and `sys` are; what cannot be read does not limit.
    """
    cpus = len(os.sched_getaffinity(0))
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return cpus
    for line in lines:
        controllers, path = line.split(":", 2)[1:]
        group = root / "sys/fs/cgroup" / path.strip("/")
        if not controllers and ".." not in path:
            for directory in (group, *group.parents[: path.count("/")]):
                cpus = min(cpus, _quota(directory / "cpu.max", cpus))
    return max(1, cpus)


def _quota(path: Path, cpus: int) -> int:
    try:
        quota, period = path.read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return cpus
