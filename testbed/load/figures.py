"""Numbers of a run: percentiles, CPU time and memory of processes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from testbed.processes import descendants

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def percentiles(values: Iterable[float]) -> dict[str, float | int]:
    """`count`, `p50`, `p95`, `p99`, `max`; the count alone when there are none."""
    ordered = sorted(values)
    if not ordered:
        return {"count": 0}

    def at(share: float) -> float:
        return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 3)

    return {
        "count": len(ordered),
        "p50": at(0.5),
        "p95": at(0.95),
        "p99": at(0.99),
        "max": round(ordered[-1], 3),
    }


def cpu_s(pid: int, *, family: bool = False) -> float:
    """User and system seconds of a process so far; `family`: with its descendants, ended ones included."""
    fields = _stat(pid)
    own = sum(int(field) for field in fields[11 : 15 if family else 13])
    of_children = sum(cpu_s(child) for child in descendants(pid)) if family else 0.0
    return own * _TICK_S + of_children


def rss_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    return _memory(pid, "VmRSS")


def peak_rss_bytes(pid: int) -> int:
    """The most resident memory that a process ever had; 0 when it is gone."""
    return _memory(pid, "VmHWM")


def _memory(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ["0"] * 20
    return text[text.rindex(")") + 2 :].split()
