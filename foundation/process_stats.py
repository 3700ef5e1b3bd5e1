"""CPU time and memory of a process, from /proc (proc(5)); zero cost, no dependency."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """Figures of one process, all its threads included, children not."""

    cpu_s: float
    """User plus system CPU-seconds since the process started."""
    rss_bytes: int
    peak_rss_bytes: int


def read_process_stats(pid: int | None = None) -> ProcessStats:
    """Figures of `pid`, or of this process.

    Raises:
        ProcessLookupError: no such process, or it ended while being read.
    """
    root = Path("/proc") / ("self" if pid is None else str(pid))
    try:
        stat = (root / "stat").read_text()
        status = (root / "status").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"no process {pid}") from error
    # The command name in field 2 may hold spaces and brackets: count fields after the last one.
    fields = stat[stat.rindex(")") + 2 :].split()
    memory = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in status.splitlines()
        if line.startswith(("VmRSS", "VmHWM"))
    }
    return ProcessStats(
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        rss_bytes=memory.get("VmRSS", 0),
        peak_rss_bytes=memory.get("VmHWM", 0),
    )
