"""CPU time and memory of a process, from /proc (proc(5)); zero cost, no dependency."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
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


def read_family_stats() -> ProcessStats:
    """This process and those that it has started, the ended ones' CPU time included.

    The peak is the sum of the peaks: at most that much was resident at once.
    """
    members = [read_process_stats()]
    for children in Path("/proc/self/task").glob("*/children"):
        try:
            pids = [int(pid) for pid in children.read_text().split()]
        except OSError:  # a thread that has ended, or a kernel that does not tell
            continue
        for pid in pids:
            with suppress(ProcessLookupError):
                members.append(read_process_stats(pid))
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ProcessStats(
        cpu_s=sum(member.cpu_s for member in members) + ended.ru_utime + ended.ru_stime,
        rss_bytes=sum(member.rss_bytes for member in members),
        peak_rss_bytes=sum(member.peak_rss_bytes for member in members),
    )
