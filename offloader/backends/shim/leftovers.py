"""Nothing that a job has started outlives it: adopts what it leaves behind, and kills it."""

from __future__ import annotations

import ctypes
import os
import signal
import time

from offloader.backends.shim.process_table import own_children, send_signal

_TIMEOUT_S = 2.0
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Adopt what the child's own children leave behind, also from sessions of their own (prctl(2))."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        return  # they end up with the system's first process: outside the group, nobody kills them


def kill_leftovers() -> int:
    """Kill and reap every process that is a child of this one by now; how many there were."""
    killed: set[int] = set()
    deadline_s = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            fresh = own_children() - killed
            for child in fresh:
                send_signal(child, signal.SIGKILL)
            killed |= fresh
            time.sleep(0.005)
    return len(killed)
