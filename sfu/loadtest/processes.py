"""What processes use, children included, and what their sockets lose: from /proc (proc(5))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_LISTEN: Final = "0A"


@dataclass(frozen=True, slots=True)
class Usage:
    """Figures of a process and all its descendants at one moment."""

    cpu_s: float
    """User and system, since their start; descendants that have ended and were waited for included."""
    rss_bytes: int
    """Summed: what processes share counts for each of them."""
    udp_drops: int
    """Datagrams that did not fit into their sockets' receive buffers, since the sockets were opened."""
    processes: int


def usage(pid: int) -> Usage:
    """Figures of `pid` and its descendants.

    Raises:
        ProcessLookupError: there is no such process.
    """
    if not Path(f"/proc/{pid}").exists():
        raise ProcessLookupError(f"no process {pid}")
    family = _family(pid)
    cpu_s, rss_bytes = 0.0, 0
    for member in family:
        with contextlib.suppress(OSError, ValueError):
            fields = _stat_fields(member)
            cpu_s += sum(int(field) for field in fields[11:15]) / _TICKS_PER_S
            rss_bytes += int(fields[21]) * os.sysconf("SC_PAGESIZE")
    return Usage(cpu_s, rss_bytes, _udp_drops(family), len(family))


def listener(port: int) -> int | None:
    """The process that listens on a TCP port of this host, the outermost one if it was inherited."""
    inodes = set()
    for line in _table("tcp"):
        fields = line.split()
        if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(fields[9])
    if not inodes:
        return None
    owners = [pid for pid in _all_pids() if inodes & set(_socket_inodes(pid))]
    return next((pid for pid in owners if _parent(pid) not in owners), None)


def _family(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        children.setdefault(_parent(pid), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _udp_drops(pids: Iterable[int]) -> int:
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    drops = 0
    for line in _table("udp"):
        fields = line.split()
        if fields[9] in inodes:
            drops += int(fields[-1])
    return drops


def _table(name: str) -> list[str]:
    lines: list[str] = []
    for version in ("", "6"):
        with contextlib.suppress(OSError):
            lines += Path(f"/proc/net/{name}{version}").read_text().splitlines()[1:]
    return lines


def _socket_inodes(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    found.append(target[8:-1])
    return found


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(_stat_fields(pid)[1])
    except (OSError, ValueError):
        return 0


def _stat_fields(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    # The command name may hold spaces and brackets: count after the last one.
    return text[text.rindex(")") + 2 :].split()
