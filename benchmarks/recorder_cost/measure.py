"""CPU time and memory of whole process trees, from /proc."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from foundation.process_stats import read_process_stats
from testbed.processes import descendants

_MEMORY_EVERY_S: Final = 2.0
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_USER_END: Final = 1 << 47
_FRAME: Final = np.uint64((1 << 55) - 1)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of some processes during a stretch of wall-clock time."""

    cpu_s_per_s: float
    pss_mb: float
    """Resident memory, pages that processes share dealt out among them; the median of some looks."""
    rss_mb: float
    """The same with such pages counted for each: what is added up where each process is looked at alone."""
    once_mb: float | None
    """Each page that one of them has in memory, once, whoever else has it too; None: not asked for, or not to
    be known, which takes root."""


async def measure(
    roots: Iterable[int],
    seconds: float,
    *,
    beside: Iterable[int] = (),
    count_pages: bool = False,
) -> Cost:
    """What `roots` and all that they have started cost from now on.

    A process that ends meanwhile is counted up to the last look at it. Those of `beside` are left out of
    `Cost.rss_mb` and `Cost.once_mb`. `count_pages`: find `Cost.once_mb`, which takes minutes for a browser
    with its terabytes of reserved addresses.
    """
    roots, beside = list(roots), frozenset(beside)
    before = cpu_by_process(roots)
    latest = dict(before)
    began_s = time.monotonic()
    pss, rss, once = [], [], []
    took_s = 0.0
    while (left_s := began_s + seconds - time.monotonic()) > 0:
        await asyncio.sleep(min(left_s, _MEMORY_EVERY_S))
        latest |= cpu_by_process(roots)
        took_s = time.monotonic() - began_s
        pss.append(_pss_mb(roots))
        rss.append(_rss_mb(tree(roots) - beside))
        once.append(_once_mb(tree(roots) - beside) if count_pages else None)
    used_s = sum(latest.values()) - sum(before.values())
    known = [value for value in once if value is not None]
    return Cost(
        used_s / took_s,
        statistics.median(pss),
        statistics.median(rss),
        statistics.median(known) if known else None,
    )


def tree(roots: Iterable[int]) -> set[int]:
    """`roots` and their descendants."""
    found = set(roots)
    for root in list(found):
        found |= descendants(root)
    return found


def cpu_by_process(roots: Iterable[int]) -> dict[int, float]:
    """CPU-seconds so far of each process of the trees."""
    used: dict[int, float] = {}
    for pid in tree(roots):
        with suppress(ProcessLookupError):
            used[pid] = read_process_stats(pid).cpu_s
    return used


def started_at_s(pid: int) -> float:
    """When a process was started, s since the epoch, to 10 ms (proc(5): field 22 of stat, btime)."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    ticks = int(stat[stat.rindex(")") + 2 :].split()[19])
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime_s + ticks / _TICKS_PER_S


def _pss_mb(roots: Iterable[int]) -> float:
    kilobytes = 0
    for pid in tree(roots):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kilobytes += int(line.split()[1])
    return kilobytes / 1024


def _rss_mb(pids: Iterable[int]) -> float:
    used = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            used += read_process_stats(pid).rss_bytes
    return used / 2**20


def _once_mb(pids: Iterable[int]) -> float | None:
    """By the numbers of the physical pages (proc(5), pagemap: bit 63 present, bits 0 to 54 the number), which
    are all 0 for who may not know them."""
    frames: list[npt.NDArray[np.uint64]] = []
    for pid in pids:
        with suppress(OSError):
            mappings = Path(f"/proc/{pid}/maps").read_text().splitlines()
            with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
                for mapping in mappings:
                    begin, end = (int(bound, 16) for bound in mapping.split()[0].split("-"))
                    if end > _USER_END:
                        continue  # of the kernel, in every process
                    pagemap.seek(begin // _PAGE_BYTES * 8)
                    entries = np.frombuffer(
                        pagemap.read((end - begin) // _PAGE_BYTES * 8), np.uint64
                    )
                    frames.append(entries[entries >> np.uint64(63) != 0] & _FRAME)
    pages = np.unique(np.concatenate(frames)) if frames else np.empty(0, np.uint64)
    return len(pages) * _PAGE_BYTES / 2**20 if pages.any() else None
