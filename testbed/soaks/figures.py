"""What the recorder's process uses while it records, sample by sample, and whether anything of it grows."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final

from foundation.process_stats import read_process_stats
from testbed.job_watch import JobProcess, log_events

_MOST_GROWTH_BYTES: Final = 6 * 1024 * 1024
"""Of memory, from the second fifth of the call to the last: kept pieces of pictures fill up at first."""
_FRAGMENT_S: Final = 2.0
"""Within less the file need not grow: it is written in pieces."""
_MOST_MORE_FDS: Final = 2
_MOST_MORE_THREADS: Final = 2
"""The event loop's pool begins one when looks at the disk, at addresses and at large pictures first meet."""
_MOST_MORE_TASKS: Final = 4
"""People come and go: each has tasks."""


def rss_limit_bytes(height_px: int) -> int:
    """Of a recording's process, at any moment of however long a call."""
    return 150_000_000 if height_px <= 720 else 200_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """At one moment."""

    at_s: float
    rss_bytes: int
    cpu_s: float
    descriptors: int
    threads: int
    tasks: int
    """Of the event loop; as the last metrics line told."""
    file_bytes: int
    """Of the recording so far."""


class Sampler:
    """Give `take` to `testbed.soaks.course.record`."""

    def __init__(self, *, most_rss_bytes: int = 150_000_000) -> None:
        """`most_rss_bytes`: what the recorder may have in memory at any moment (`rss_limit_bytes`)."""
        self._most_rss_bytes = most_rss_bytes
        self.samples: list[Sample] = []
        self.metrics: dict[str, Any] = {}
        """The last line of them."""

    def take(self, job: JobProcess, at_s: float) -> None:
        """One more sample; a process that is gone has none."""
        if job.pid is None:
            return
        try:
            stats = read_process_stats(job.pid)
            descriptors = len(os.listdir(f"/proc/{job.pid}/fd"))
            threads = len(os.listdir(f"/proc/{job.pid}/task"))
        except (ProcessLookupError, FileNotFoundError):
            return
        self.metrics = next(iter(list(log_events(job, "metrics"))[-1:]), self.metrics)
        parts = [path.stat().st_size for path in job.directory.rglob("recording.part.mp4")]
        self.samples.append(
            Sample(
                round(at_s, 1),
                stats.rss_bytes,
                stats.cpu_s,
                descriptors,
                threads,
                int(self.metrics.get("tasks", 0)),
                sum(parts),
            )
        )

    def complaints(self) -> list[str]:
        """What grows that should not, and what does not grow that should."""
        count = len(self.samples)
        if count < 5:
            return [f"{count} samples: too few to judge"]
        early, late = self.samples[count // 5 : 2 * count // 5], self.samples[-(count // 5) :]
        found = []
        for name, most in (
            ("rss_bytes", _MOST_GROWTH_BYTES),
            ("descriptors", _MOST_MORE_FDS),
            ("threads", _MOST_MORE_THREADS),
            ("tasks", _MOST_MORE_TASKS),
        ):
            before, after = (median(getattr(s, name) for s in part) for part in (early, late))
            if after - before > most:
                found.append(f"{name} grew from {before:.0f} to {after:.0f}")
        if any(
            after.file_bytes <= before.file_bytes
            for before, after in pairwise(self.samples)
            if after.at_s - before.at_s >= _FRAGMENT_S
        ):
            found.append("the file did not grow all the time")
        peak_bytes = max(sample.rss_bytes for sample in self.samples)
        if peak_bytes > self._most_rss_bytes:
            found.append(f"rss_bytes was {peak_bytes}, more than {self._most_rss_bytes}")
        wrong = ("audio_late_s", "audio_dropped_s", "inbox_dropped", "media_none_s")
        return found + [
            f"{name} is {self.metrics[name]}" for name in wrong if self.metrics.get(name)
        ]

    def public(self) -> dict[str, Any]:
        """For the report."""
        if not self.samples:
            return {"samples": []}
        first, last = self.samples[0], self.samples[-1]
        elapsed_s = max(last.at_s - first.at_s, 1e-9)
        return {
            "cpu_per_s": round((last.cpu_s - first.cpu_s) / elapsed_s, 4),
            "most_rss_mb": self._most_rss_bytes / 1e6,
            "peak_rss_mb": round(max(s.rss_bytes for s in self.samples) / 1e6, 1),
            "last_rss_mb": round(last.rss_bytes / 1e6, 1),
            "kbit_per_s": round((last.file_bytes - first.file_bytes) * 8 / elapsed_s / 1000, 1),
            "metrics": {k: v for k, v in self.metrics.items() if isinstance(v, int | float)},
            "samples": [asdict(sample) for sample in self.samples],
        }
