"""Control groups for process jobs: whether we may make some, and what is written into them.

The tree is a directory that looks like the kernel's; what the kernel does is in `test_cgroup_kernel.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offloader.backends import cgroup, cpu_priority
from offloader.backends.cgroup import GroupLimits, JobGroups, NotDelegated, claim
from offloader.models import JobType

MIB = 1024 * 1024
LIMITS = GroupLimits(memory_max_bytes=100 * MIB, cpus=1.5, pids=64)
RECORDING = cpu_priority.LIVE[JobType.RECORDING]
GROUP_FILES = {
    "cpu.weight": "100",
    "cpu.max": "max 100000",
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.oom.group": "0",
    "memory.events": "low 0\noom 0\noom_kill 0",
    "pids.max": "max",
    "cgroup.procs": "",
    "cgroup.events": "populated 0\nfrozen 0",
    "cgroup.kill": "",
}


class Tree:
    """`proc` and `sys` as a service of a unit sees them."""

    def __init__(self, root: Path, own: str = "system.slice/calls.service") -> None:
        self.root = root
        self.base = root / "sys/fs/cgroup/system.slice/calls.service"
        self.base.mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(f"1:name=systemd:/x\n0::/{own}\n")
        (root / "proc/self/mountinfo").write_text(
            "23 1 0:21 / /proc rw - proc proc rw\n"
            "31 23 0:27 /docker/x /elsewhere rw - cgroup2 cgroup2 rw\n"
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
        )
        self.write(self.base, "cgroup.controllers", "cpuset cpu io memory pids")
        self.write(self.base, "cgroup.procs", str(os.getpid()))
        self.write(self.base, "cgroup.subtree_control", "")
        self.group("service")

    def group(self, name: str, **files: str) -> Path:
        """A group as the kernel makes it."""
        group = self.base / name
        group.mkdir()
        for file, content in (GROUP_FILES | files).items():
            self.write(group, file, content)
        return group

    @staticmethod
    def write(group: Path, name: str, content: str) -> None:
        (group / name).write_text(content + "\n")

    @staticmethod
    def read(group: Path, name: str) -> str:
        # The kernel takes what is written; a plain file keeps the end of what was there before.
        return (group / name).read_text().splitlines()[0]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(os, "geteuid", lambda: 990)
    return Tree(tmp_path)


def empty_all(group: Path) -> None:
    """What is written next is all there is."""
    for path in group.iterdir():
        if path.is_file() and path.name not in ("memory.max", "cgroup.events"):
            path.write_text("")


def test_the_service_moves_into_a_group_of_its_own_and_takes_the_controllers(tree: Tree) -> None:
    empty_all(tree.base / "service")
    groups = claim(LIMITS, root=tree.root)
    assert tree.read(tree.base / "service", "cgroup.procs") == str(os.getpid())
    assert tree.read(tree.base, "cgroup.subtree_control") == "+cpu +memory +pids"
    assert tree.read(tree.base / "service", "cpu.weight") == str(cpu_priority.SERVICE.weight)
    assert (groups.home, groups.limits_memory) == (tree.base / "service", True)


def test_a_service_that_was_started_in_its_own_group_is_not_moved(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 990)
    tree = Tree(tmp_path, own="system.slice/calls.service/service")
    tree.write(tree.base, "cgroup.procs", "")
    assert claim(LIMITS, root=tree.root).home == tree.base / "service"
    assert tree.read(tree.base / "service", "cgroup.procs") == ""


def test_only_the_controllers_that_are_there_are_used(tree: Tree) -> None:
    tree.write(tree.base, "cgroup.controllers", "memory pids")
    groups = claim(LIMITS, root=tree.root)
    assert groups.controllers == {"memory", "pids"}
    group = tree.group("job-a")
    groups.restrict(group, RECORDING)
    assert tree.read(group, "cpu.max") == "max 100000"


def _not_mounted(tree: Tree) -> None:
    (tree.root / "proc/self/mountinfo").write_text("23 1 0:21 / /proc rw - proc proc rw\n")


def _version_1_only(tree: Tree) -> None:
    (tree.root / "proc/self/cgroup").write_text("4:memory:/\n")


def _no_controllers(tree: Tree) -> None:
    tree.write(tree.base, "cgroup.controllers", "hugetlb")


def _somebody_else_inside(tree: Tree) -> None:
    tree.write(tree.base, "cgroup.procs", f"{os.getpid()}\n1")


def _read_only(tree: Tree) -> None:
    (tree.base / "cgroup.subtree_control").unlink()


def entry(name: str, change: Callable[[Tree], None]) -> Any:
    """A row that says what it provokes."""
    return pytest.param(name, change, marks=pytest.mark.documents(name), id=change.__name__)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        entry("no-control-groups-for-jobs", _not_mounted),
        entry("no-control-groups-for-jobs", _version_1_only),
        entry("no-control-groups-for-jobs/2", _no_controllers),
        entry("no-control-groups-for-jobs/3", _somebody_else_inside),
        entry("no-control-groups-for-jobs/4", _read_only),
    ],
)
def test_without_delegation_nothing_is_changed_and_the_reason_is_told(
    tree: Tree, change, name: str, documented
) -> None:
    change(tree)
    before = {path: path.read_text() for path in tree.root.rglob("*") if path.is_file()}
    with pytest.raises(NotDelegated) as refused:
        claim(LIMITS, root=tree.root)
    documented(name, str(refused.value))
    assert {path: path.read_text() for path in tree.root.rglob("*") if path.is_file()} == before


@pytest.mark.documents("no-control-groups-for-jobs/5")
def test_root_needs_to_be_told_because_it_can_write_everywhere(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "listxattr", lambda _: [])
    tree.write(tree.base.parent, "cgroup.procs", "")
    with pytest.raises(NotDelegated) as refused:
        claim(LIMITS, root=tree.root)
    documented("no-control-groups-for-jobs/5", str(refused.value))
    monkeypatch.setattr(os, "listxattr", lambda _: ["user.delegate"])
    assert claim(LIMITS, root=tree.root).controllers == {"cpu", "memory", "pids"}


@pytest.mark.parametrize(("type_known", "allowed"), [(True, True), (False, False)])
def test_root_of_a_container_owns_its_top_group_but_not_the_hosts(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, type_known: bool, allowed: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "listxattr", lambda _: [])
    if type_known:  # the host's own top group has none
        tree.write(tree.base, "cgroup.type", "domain")
    if allowed:
        claim(LIMITS, root=tree.root)
    else:
        with pytest.raises(NotDelegated):
            claim(LIMITS, root=tree.root)


@pytest.fixture
def groups(tree: Tree) -> JobGroups:
    return claim(LIMITS, root=tree.root)


def test_the_controllers_are_given_back_when_the_service_ends(tree: Tree, groups) -> None:
    groups.release_at_end()
    groups.release()
    groups.release()
    assert tree.read(tree.base, "cgroup.subtree_control") == "-cpu -memory -pids"


def test_the_controllers_are_given_back_also_by_a_service_that_is_killed(tree: Tree) -> None:
    code = f"""
import os, signal
from pathlib import Path
from offloader.backends.cgroup import GroupLimits, JobGroups
groups = JobGroups(Path({str(tree.base)!r}), frozenset({{"memory"}}), GroupLimits(0, 0, 0))
groups.release_at_end()
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", code], timeout=25, check=False)
    assert died.returncode == -signal.SIGKILL
    give_up_s = time.monotonic() + 25
    while not (given := (tree.base / "cgroup.subtree_control").read_text().strip()):
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    assert given == "-memory"


def test_a_job_gets_its_limits_and_its_weight(tree: Tree, groups: JobGroups) -> None:
    group = tree.group("job-abc")
    empty_all(group)
    assert groups.make("abc", RECORDING) == group
    assert {name: tree.read(group, name) for name in GROUP_FILES if (group / name).read_text()} == {
        "cpu.weight": "100",
        "cpu.max": "150000 100000",
        "memory.max": str(100 * MIB),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "64",
        "cgroup.events": "populated 0",
    }


def test_no_limit_is_said_as_the_kernel_wants_it(tree: Tree) -> None:
    groups = claim(GroupLimits(0, 0, 0), root=tree.root)
    group = tree.group("job-abc")
    empty_all(group)
    groups.make("abc", RECORDING)
    assert tree.read(group, "cpu.max") == "max 100000"
    assert tree.read(group, "pids.max") == "max"
    assert tree.read(group, "memory.max") == "max"
    assert (group / "memory.swap.max").read_text() == "", "only a limit needs swap to be closed"


def test_a_memory_limit_that_a_job_runs_under_is_left(tree: Tree, groups: JobGroups) -> None:
    group = tree.group("job-abc", **{"memory.max": str(900 * MIB)})
    groups.restrict(group, RECORDING)
    assert tree.read(group, "memory.max") == str(900 * MIB)


def test_a_host_without_swap_has_no_limit_for_it(tree: Tree, groups: JobGroups) -> None:
    group = tree.group("job-abc")
    (group / "memory.swap.max").unlink()
    groups.restrict(group, RECORDING)
    assert not (group / "memory.swap.max").exists()


def test_what_the_kernel_does_not_offer_is_an_error_and_no_file(tree: Tree, groups) -> None:
    with pytest.raises(OSError, match=r"cpu\.weight"):
        groups.make("abc", RECORDING)  # a plain directory: nothing appears in it by itself
    assert list((tree.base / "job-abc").iterdir()) == []


def test_empty_groups_are_swept_and_running_ones_stay(
    tree: Tree, groups: JobGroups, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.group("job-ended")
    tree.group("job-runs", **{"cgroup.events": "populated 1\nfrozen 0"})
    removed: list[str] = []
    monkeypatch.setattr(cgroup.job_group, "remove", lambda group: not removed.append(group))
    assert groups.sweep() == ["job-ended"]
    assert removed == [str(tree.base / "job-ended")]


@pytest.mark.parametrize(
    ("events", "whose"),
    [
        ("oom 0\noom_kill 0", None),
        ("oom 1\noom_kill 3", "limit"),
        ("oom 0\noom_kill 1", "host"),
        ("oom 5\noom_kill 0", None),
    ],
)
def test_whose_limit_killed_a_job_is_told(tree: Tree, events: str, whose: str | None) -> None:
    group = tree.group("job-a", **{"memory.events": events})
    assert cgroup.job_group.killed_for_memory(str(group)) == whose


def test_a_group_that_is_gone_is_neither_killed_nor_in_the_way(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert cgroup.job_group.killed_for_memory(gone) is None
    assert not cgroup.job_group.populated(gone)
    assert not cgroup.job_group.kill(gone)
    assert cgroup.job_group.remove(gone)


def test_captions_come_before_recording_and_recording_before_work_after_the_call() -> None:
    captions, recording = (cpu_priority.LIVE[t] for t in (JobType.TRANSCRIBING, JobType.RECORDING))
    ordered = (captions, recording, cpu_priority.POST_CALL)
    assert [p.weight for p in ordered] == sorted((p.weight for p in ordered), reverse=True)
    assert [p.nice for p in ordered] == sorted(p.nice for p in ordered)
    assert len({p.weight for p in ordered}) == len({p.nice for p in ordered}) == 3
    for job_type in JobType:
        live = cpu_priority.LIVE[job_type]
        assert cpu_priority.at_nice(job_type, live.nice) == live
        assert cpu_priority.at_nice(job_type, cpu_priority.POST_CALL.nice) == cpu_priority.POST_CALL
