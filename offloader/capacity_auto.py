"""What `jobs.max_concurrent_jobs = "auto"` means on this machine.

The arithmetic is pure; `read_machine` looks at what there is: cores this process may use, memory, and the
limits of its cgroup and of every one above it. Jobs in containers of their own are not under the service's
cgroup, so for them only the machine counts.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_GIB: Final = 1 << 30

CORES_PER_CALL: Final = 1.5
"""A recorder (0.1 to 0.5) and live captions, which have two threads but seldom use both."""
MEMORY_PER_CALL_BYTES: Final = 3 * _GIB // 2
"""A recorder and a transcriber with its caption model."""
MEMORY_PER_POST_CALL_BYTES: Final = _GIB
"""A transcriber with the base model, after its call."""
_CORES_OF_SERVICE: Final = 0.5
_MEMORY_OF_SERVICE_BYTES: Final = _GIB
"""The service and the operating system."""
_NO_LIMIT_BYTES: Final = 1 << 60
"""Version 1 of the interface says "no limit" with a number of about this size."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What jobs can use."""

    cores: float
    memory_bytes: int


def calls_that_fit(machine: Machine, *, post_call_slots: int) -> int:
    """How many calls at a time; at least one, so that a small machine does something too.

    Work after the call yields to live calls at the cores, but its memory is taken from theirs.
    """
    by_cores = (machine.cores - _CORES_OF_SERVICE) / CORES_PER_CALL
    memory = machine.memory_bytes - _MEMORY_OF_SERVICE_BYTES
    by_memory = (memory - post_call_slots * MEMORY_PER_POST_CALL_BYTES) / MEMORY_PER_CALL_BYTES
    return max(int(min(by_cores, by_memory)), 1)


def read_machine(*, own_limits: bool, root: Path = Path("/")) -> Machine:
    """This machine; with `own_limits` also what the service's own cgroup and CPU affinity leave.

    `root`: where `proc` and `sys` are. What cannot be read does not limit.
    """
    cores = float(os.cpu_count() or 1)
    memory_bytes = _total_memory_bytes(_read(root / "proc/meminfo"))
    if not own_limits:
        return Machine(cores, memory_bytes)
    cores = min(cores, len(os.sched_getaffinity(0)))
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for group in _group_and_parents(path):
            limit = _limits(root / "sys/fs/cgroup", controllers, group)
            cores, memory_bytes = min(cores, limit.cores), min(memory_bytes, limit.memory_bytes)
    return Machine(cores, memory_bytes)


def _limits(mount: Path, controllers: str, group: str) -> Machine:
    """Of one group: version 2 has no controller names in its line, version 1 one tree for each."""
    cores, memory_bytes = float("inf"), _NO_LIMIT_BYTES
    if not controllers:
        quota, _, period = _read(mount / group / "cpu.max").strip().partition(" ")
        cores = _quota(quota, period)
        memory_bytes = _limit_bytes(_read(mount / group / "memory.max"))
    if "cpu" in controllers.split(","):
        tree = mount / "cpu" / group
        cores = _quota(_read(tree / "cpu.cfs_quota_us"), _read(tree / "cpu.cfs_period_us"))
    if "memory" in controllers.split(","):
        memory_bytes = _limit_bytes(_read(mount / "memory" / group / "memory.limit_in_bytes"))
    return Machine(cores, memory_bytes)


def _group_and_parents(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part and part != ".."]
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]


def _quota(quota: str, period: str) -> float:
    if not (quota.strip().isdigit() and period.strip().isdigit() and int(period)):
        return float("inf")
    return int(quota) / int(period)


def _limit_bytes(text: str) -> int:
    return min(int(text), _NO_LIMIT_BYTES) if text.strip().isdigit() else _NO_LIMIT_BYTES


def _total_memory_bytes(meminfo: str) -> int:
    match = re.search(r"^MemTotal:\s+([0-9]+) kB", meminfo, re.MULTILINE)
    return int(match[1]) * 1024 if match else _NO_LIMIT_BYTES


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
