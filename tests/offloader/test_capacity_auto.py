from __future__ import annotations

from pathlib import Path

import pytest

from offloader.capacity_auto import Machine, calls_that_fit, read_machine

GIB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "memory_gib", "slots", "calls"),
    [
        (1, 1, 2, 1),  # never nothing
        (2, 64, 2, 1),
        (4, 8, 2, 2),
        (8, 16, 2, 5),
        (8, 4, 0, 2),  # memory is what there is too little of
        (8, 4, 2, 1),
        (64, 256, 2, 42),
        (2.5, 64, 2, 1),  # a quota
    ],
)
def test_cores_and_memory_decide(cores: float, memory_gib: int, slots: int, calls: int) -> None:
    assert calls_that_fit(Machine(cores, memory_gib * GIB), post_call_slots=slots) == calls


def machine_files(root: Path, cgroup: str, **files: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal:  {8 * GIB // 1024} kB\nMemFree: 1 kB\n")
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_without_limits_the_machine_counts(tmp_path: Path) -> None:
    machine = read_machine(own_limits=False, root=machine_files(tmp_path, "0::/\n"))
    assert machine.memory_bytes == 8 * GIB
    assert machine.cores >= 1


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    root = machine_files(
        tmp_path,
        "0::/system.slice/calls.service\n",
        **{
            "system_dot_slice__calls_dot_service__memory_dot_max": "max",
            "system_dot_slice__calls_dot_service__cpu_dot_max": "50000 100000",
            "system_dot_slice__memory_dot_max": str(2 * GIB),
            "system_dot_slice__cpu_dot_max": "max 100000",
        },
    )
    assert read_machine(own_limits=True, root=root) == Machine(0.5, 2 * GIB)
    assert read_machine(own_limits=False, root=root).memory_bytes == 8 * GIB


def test_limits_of_the_older_interface_count_too(tmp_path: Path) -> None:
    root = machine_files(
        tmp_path,
        "4:memory:/a\n1:cpu,cpuacct:/a\n0::/\n",
        memory__a__memory_dot_limit_in_bytes=str(3 * GIB),
        cpu__a__cpu_dot_cfs_quota_us="25000",
        cpu__a__cpu_dot_cfs_period_us="100000",
    )
    assert read_machine(own_limits=True, root=root) == Machine(0.25, 3 * GIB)


def test_no_limit_in_the_older_interface_is_no_limit(tmp_path: Path) -> None:
    root = machine_files(
        tmp_path,
        "4:memory:/\n1:cpu:/\n",
        memory__memory_dot_limit_in_bytes="9223372036854771712",
        cpu__cpu_dot_cfs_quota_us="-1",
        cpu__cpu_dot_cfs_period_us="100000",
    )
    machine = read_machine(own_limits=True, root=root)
    assert machine.memory_bytes == 8 * GIB
    assert machine.cores >= 1
