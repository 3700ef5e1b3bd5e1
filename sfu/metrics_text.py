"""`GET /metrics`: the numbers as Prometheus text, named as rtcd names them (rtcd.md 1.6, trap 11).

Gauges keep their names that end in `_total`, there are no `_created` series, and the process's own figures
have the prefix `rtcd_process_`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from foundation.process_stats import read_process_stats
from sfu.metrics import FAMILIES, SfuMetrics, Snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class SnapshotCollector(Collector):
    """Gives the sum of some snapshots to prometheus_client."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        total = SfuMetrics()
        for snapshot in snapshots:
            total.merge(snapshot)
        self._snapshot = total.snapshot()

    def collect(self) -> Iterator[Metric]:
        for name, family in FAMILIES.items():
            if family.kind == "histogram":
                entries = self._snapshot["histograms"].get(name, ())
                histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
                for labels, counts, total in entries:
                    histogram.add_metric(labels, _cumulative(family.buckets, counts), total)
                metric: Metric = histogram
            else:
                entries = self._snapshot["values"].get(name, ())
                made = GaugeMetricFamily if family.kind == "gauge" else CounterMetricFamily
                plain = made(name, family.help, labels=family.labels)
                for labels, number in entries:
                    plain.add_metric(labels, number)
                metric = plain
            if entries:  # rtcd is silent about what has never happened
                yield metric


class ProcessFamilyCollector(Collector):
    """Figures of this process and of all that it started, added up: `rtcd_process_*`."""

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid or os.getpid()

    def collect(self) -> Iterator[Metric]:
        cpu_s = 0.0
        resident_bytes = virtual_bytes = open_files = 0
        for pid in family_of(self._pid):
            try:
                stats = read_process_stats(pid)
                virtual_bytes += _virtual_bytes(pid)
                open_files += len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                continue  # it has just ended, or is somebody else's
            cpu_s += stats.cpu_s
            resident_bytes += stats.rss_bytes
        yield CounterMetricFamily("rtcd_process_cpu_seconds", "User and system CPU time, s.", cpu_s)
        for name, text, value in (
            ("open_fds", "Open file descriptors.", open_files),
            ("max_fds", "Most file descriptors of one process.", _most_files(self._pid)),
            ("resident_memory_bytes", "Resident memory.", resident_bytes),
            ("virtual_memory_bytes", "Virtual memory.", virtual_bytes),
            ("start_time_seconds", "Start since the epoch, s.", _start_s(self._pid)),
        ):
            yield GaugeMetricFamily(f"rtcd_process_{name}", text, value)


def render(snapshots: Iterable[Snapshot]) -> bytes:
    """The text of `GET /metrics`: the sum of all processes' snapshots, and the processes' own figures."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(snapshots))
    registry.register(ProcessFamilyCollector())
    PlatformCollector(registry)
    GCCollector(registry)
    return generate_latest(registry)


def family_of(pid: int) -> list[int]:
    """A process and everything that it has started and that still runs."""
    found = [pid]
    for member in found:  # grows while it is read
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                found += [int(text) for text in task.read_text().split()]
            except OSError:
                continue
    return found


def _cumulative(bounds: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    """Prometheus counts each bucket with all below it; bounds are written as Go writes them."""
    buckets, so_far = [], 0
    for bound, count in zip((*(f"{b:g}" for b in bounds), "+Inf"), counts, strict=True):
        so_far += count
        buckets.append((bound, float(so_far)))
    return buckets


def _virtual_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _most_files(pid: int) -> int:
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdecimal() else 0
    return 0


def _start_s(pid: int) -> float:
    stat = Path(f"/proc/{pid}/stat").read_text()
    ticks = int(stat[stat.rindex(")") + 2 :].split()[19])
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) + ticks / _TICKS_PER_S
    return 0.0
