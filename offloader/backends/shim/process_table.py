"""Who runs: what proc(5) tells about processes, sessions and the boot."""

from __future__ import annotations

import os
import signal


def start_ticks(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot (proc(5), field 22); None: gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def boot_id() -> str:
    """Changes at each boot: process IDs and ticks of another boot mean nothing. Empty: not to be had."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def session_rss_bytes(session_id: int) -> int:
    """Resident memory of all processes of a session but its leader (proc(5), fields 6 and 24), bytes.

    Pages that several of them share count more than once.
    """
    pages = 0
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == session_id:
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session_id:
            pages += int(fields[21])
    return pages * os.sysconf("SC_PAGE_SIZE")


def own_children() -> set[int]:
    """Process IDs of the children of this process, zombies included (proc(5), field 4)."""
    me = os.getpid()
    children = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == me:
                children.add(int(name))
    return children


def send_signal(pid: int, number: signal.Signals) -> None:
    """Signal a process, or with a negative ID a process group; one that is gone needs none."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
