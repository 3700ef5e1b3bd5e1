"""Control groups for process jobs where the service may make some: cgroup v2, delegated to it.

The rules are the kernel's (admin-guide/cgroup-v2.rst) and systemd's (CGROUP_DELEGATION.md, `Delegate=yes`):
below our own group there is one for the service itself, since a group whose children have limits holds no
processes, and one for each job. Everything here blocks for microseconds: files of the kernel.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from offloader.backends import cpu_priority
from offloader.backends.cpu_priority import CpuPriority
from offloader.backends.shim import job_group

SERVICE_GROUP: Final = "service"
"""Also what the unit's `DelegateSubgroup=` names."""
_JOB_PREFIX: Final = "job-"
_CONTROLLERS: Final = ("cpu", "memory", "pids")
_CPU_PERIOD_US: Final = 100_000
_RELEASE_S: Final = 2.0
_WHEN_WE_ARE_GONE: Final = 'read -r _; echo "$1" > "$2"'
_MARKS: Final = ("user.delegate", "trusted.delegate")
"""By these extended attributes systemd tells that it keeps its hands off (CGROUP_DELEGATION.md)."""


class NotDelegated(Exception):
    """There is no group in which this process could make others; the text says why."""


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """What one job may use; 0: no limit."""

    memory_max_bytes: int
    cpus: float
    pids: int


class JobGroups:
    """The groups below our own. Made by `claim`."""

    def __init__(self, base: Path, controllers: frozenset[str], limits: GroupLimits) -> None:
        self._base = base
        self._keeper: subprocess.Popen[bytes] | None = None
        self._limits = limits
        self.controllers = controllers
        """Of `cpu`, `memory`, `pids`, those that are to be had."""
        self.home = base / SERVICE_GROUP
        """Where the service and the shims are."""

    @property
    def limits_memory(self) -> bool:
        """The kernel holds jobs to their memory limit."""
        return "memory" in self.controllers

    def release_at_end(self) -> None:
        """When this process is gone, however it went, give the controllers back. Raises OSError.

        Before systemd 254 (`DelegateSubgroup=`) a service is always started in the group that was given to
        it, which is refused while groups below have limits: with jobs that run on, no restart would succeed
        (status=219/CGROUP). A shell outlives us to that end; until the next start jobs are without limits.
        """
        if self.controllers:
            off = " ".join(f"-{name}" for name in sorted(self.controllers))
            control = str(self._base / "cgroup.subtree_control")
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", _WHEN_WE_ARE_GONE, "calls-offloader-groups", off, control],
                stdin=subprocess.PIPE,  # ends with us
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={},
            )

    def release(self) -> None:
        """Give the controllers back now. Idempotent; blocks for some milliseconds."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            assert keeper.stdin is not None
            keeper.stdin.close()
            try:
                keeper.wait(_RELEASE_S)
            except subprocess.TimeoutExpired:
                keeper.kill()
                keeper.wait()

    def make(self, name: str, priority: CpuPriority) -> Path:
        """A group for one job, with its limits. Raises OSError."""
        group = self._base / f"{_JOB_PREFIX}{name}"
        group.mkdir(exist_ok=True)
        self.restrict(group, priority)
        return group

    def restrict(self, group: Path, priority: CpuPriority) -> None:
        """Give a group what it lacks of its limits: whoever starts the service may have taken them away with
        our right to the controllers. A memory limit that a job runs under is left. Raises OSError."""
        if "cpu" in self.controllers:
            self.prioritize(group, priority)
            quota = f"{round(self._limits.cpus * _CPU_PERIOD_US)}" if self._limits.cpus else "max"
            _write(group / "cpu.max", f"{quota} {_CPU_PERIOD_US}")
        if "pids" in self.controllers:
            _write(group / "pids.max", str(self._limits.pids or "max"))
        if self.limits_memory:
            _write(group / "memory.oom.group", "1")
            if self._limits.memory_max_bytes and _read(group / "memory.max") == "max":
                _write(group / "memory.max", str(self._limits.memory_max_bytes))
                if (group / "memory.swap.max").exists():  # the host has swap
                    _write(group / "memory.swap.max", "0")

    def prioritize(self, group: Path, priority: CpuPriority) -> None:
        """Set the weight, where there is one. Raises OSError."""
        if "cpu" in self.controllers:
            _write(group / "cpu.weight", str(priority.weight))

    def sweep(self) -> list[str]:
        """Remove groups in which nothing runs any more; their names. Those of running jobs stay."""
        groups = self._base.glob(f"{_JOB_PREFIX}*")
        empty = [group for group in groups if not job_group.populated(str(group))]
        return [group.name for group in empty if job_group.remove(str(group))]


def claim(limits: GroupLimits, *, root: Path = Path("/")) -> JobGroups:
    """Move this process into a group of its own below the one it was given, and take the controllers.

    `root`: where `proc` and `sys` are. May be repeated, also by a later process that was started right into
    the service's own group.

    Raises:
        NotDelegated: nothing was changed that limits anybody.
    """
    base = _own_group(root)
    try:
        _check_ours(base)
        available = _read(base / "cgroup.controllers").split()
        controllers = frozenset(_CONTROLLERS).intersection(available)
        if not controllers:
            raise NotDelegated(f"{base}: none of the controllers {' '.join(_CONTROLLERS)} is there")
        inside = set(_read(base / "cgroup.procs").split())
        if inside - {str(os.getpid())}:
            raise NotDelegated(f"{base}: other processes are in it, which are not ours to move")
        home = base / SERVICE_GROUP
        home.mkdir(exist_ok=True)
        if inside:
            _write(home / "cgroup.procs", str(os.getpid()))
        _write(
            base / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(controllers))
        )
        groups = JobGroups(base, controllers, limits)
        groups.prioritize(home, cpu_priority.SERVICE)
    except OSError as error:
        raise NotDelegated(f"{error.filename or base}: {error.strerror}") from error
    return groups


def _own_group(root: Path) -> Path:
    """The group that was given to us, which is above the service's own."""
    lines = _lines(root / "proc/self/cgroup")
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    mount = _mount(_lines(root / "proc/self/mountinfo"))
    if own is None or mount is None:
        raise NotDelegated("cgroup v2 is not mounted here")
    group = root / mount.lstrip("/") / own.lstrip("/")
    if group.name == SERVICE_GROUP and os.access(group.parent / "cgroup.subtree_control", os.W_OK):
        return group.parent
    return group


def _mount(mountinfo: list[str]) -> str | None:
    """Where the whole tree of cgroup v2 is mounted, as far as we see it (proc_pid_mountinfo(5))."""
    for line in mountinfo:
        place, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 ") and place.split()[3] == "/":
            return place.split()[4]
    return None


def _check_ours(base: Path) -> None:
    for place in (base, base / "cgroup.procs", base / "cgroup.subtree_control"):
        if not os.access(place, os.W_OK):
            raise NotDelegated(f"{place}: cannot be written: set Delegate=yes in the unit")
    if os.geteuid() == 0 and not _is_marked(base):
        # Root can write everywhere, and so cannot tell by that what it was given.
        raise NotDelegated(f"{base}: not marked as delegated: set Delegate=yes in the unit")


def _is_marked(base: Path) -> bool:
    """systemd says so; or it is the top of a container's own tree, unlike the host's, which has no type."""
    top = not (base.parent / "cgroup.procs").exists()
    return any(mark in os.listxattr(base) for mark in _MARKS) or (
        top and (base / "cgroup.type").exists()
    )


def _lines(path: Path) -> list[str]:
    try:
        return _read(path).splitlines()
    except OSError:
        return []


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()


def _write(path: Path, text: str) -> None:
    # Without O_CREAT: what the kernel does not offer is an error, and no file.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(fd)
