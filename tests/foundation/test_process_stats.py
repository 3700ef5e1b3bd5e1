"""Figures of a process, and of it with those that it has started."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from foundation.process_stats import read_family_stats, read_process_stats

_BUSY = """
import sys, time
held = bytearray(64 << 20)
while time.process_time() < 0.3:
    pass
print(1, flush=True)
sys.stdin.read()
"""
TICKS_S = 0.05
"""The kernel counts in hundredths, for each process."""


def test_a_family_has_the_memory_of_those_that_run_and_the_cpu_time_of_all() -> None:
    before = read_family_stats()
    started: list[subprocess.Popen[str]] = []

    def start() -> None:  # the kernel keeps the children of each thread
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", _BUSY],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with started[0] as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        during = read_family_stats()
        child.stdin.close()
    after = read_family_stats()
    assert during.rss_bytes - before.rss_bytes > 60 << 20
    assert during.cpu_s - before.cpu_s >= 0.3 - TICKS_S
    assert after.cpu_s - before.cpu_s >= 0.3 - TICKS_S
    assert after.rss_bytes < during.rss_bytes - (60 << 20)


def test_a_process_that_is_gone_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    with pytest.raises(ProcessLookupError):
        read_process_stats(child.pid)
