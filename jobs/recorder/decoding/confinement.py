"""What the decoding process takes from itself before it sees the first byte of a participant."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from jobs.recorder.decoding import seccomp

_OPEN_FILES: Final = 16
"""More than are open."""


def confine(address_bytes: int) -> list[str]:
    """Give up everything but computing and the descriptors that are open; at most that much address space.

    Each measure stands by itself. Returns those that the kernel refused, with its reason.
    """
    measures: dict[str, Callable[[], None]] = {
        "no_new_privs": seccomp.forbid_new_privileges,
        "memory": lambda: _limit(resource.RLIMIT_AS, address_bytes),
        "core": lambda: _limit(resource.RLIMIT_CORE, 0),
        "file_size": lambda: _limit(resource.RLIMIT_FSIZE, 0),
        "processes": lambda: _limit(resource.RLIMIT_NPROC, 0),
        "open_files": lambda: _limit(resource.RLIMIT_NOFILE, _OPEN_FILES),
        "seccomp": seccomp.forbid_system_calls,
    }
    refused = []
    for name, take in measures.items():
        try:
            take()
        except (OSError, ValueError) as error:
            refused.append(f"{name}: {getattr(error, 'strerror', None) or error}")
    return refused


def prefer_for_killing() -> None:
    """Short of memory, the kernel is to end this process and not the recorder (proc(5), oom_score_adj)."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (most, most))
