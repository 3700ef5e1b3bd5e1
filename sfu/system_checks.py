"""What the machine should be set to, looked at once at the start (docs/sfu.md, kernel tunings)."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WANTED_BYTES: Final = 16 * 1024 * 1024
WANTED_FILES: Final = 65_536
_NET: Final = Path("/proc/sys/net/core")
_BUFFERS: Final = ("rmem_max", "wmem_max", "optmem_max")


@dataclass(frozen=True, slots=True)
class Shortage:
    """A limit that is lower than it should be."""

    name: str
    found: int
    wanted: int
    command: str
    """What mends it."""


def shortages(net: Path = _NET) -> list[Shortage]:
    """Limits of this machine and process that cost packets, or sessions, under load.

    A limit that cannot be read, as in most containers, is left out: it is the host's.
    """
    found = []
    for name in _BUFFERS:
        try:
            value = int((net / name).read_text())
        except (OSError, ValueError):
            continue
        if value < WANTED_BYTES:
            command = f"sysctl -w net.core.{name}={WANTED_BYTES}"
            found.append(Shortage(f"net.core.{name}", value, WANTED_BYTES, command))
    files = allowed_files()
    if files < WANTED_FILES:
        command = f"LimitNOFILE={WANTED_FILES} in the unit, or ulimit -n {WANTED_FILES}"
        found.append(Shortage("open files", files, WANTED_FILES, command))
    return found


def allowed_files() -> int:
    """How many descriptors this process may have; raises its soft limit where the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return WANTED_FILES if soft == resource.RLIM_INFINITY else soft


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))
