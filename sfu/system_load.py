"""`cpu_load` as rtcd tells it: the plugin compares hosts by it (rtcd.md 1.4, trap 14)."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_HIGHEST = 1e6
"""Told when no core was idle at all: infinity cannot be written as JSON."""


class SystemLoad:
    """Elapsed seconds over idle CPU-seconds of the host: one over the number of idle cores."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._last: tuple[float, float] | None = None

    def sample(self) -> float:
        """The load since the sample before; 0 the first time. Take one every second."""
        now_s, idle_s = time.monotonic(), self._idle_s()
        last, self._last = self._last, (now_s, idle_s)
        if last is None:
            return 0.0
        idle = idle_s - last[1]
        return min((now_s - last[0]) / idle, _HIGHEST) if idle > 0 else _HIGHEST

    def _idle_s(self) -> float:
        fields = self._stat.read_text().split("\n", 1)[0].split()
        return int(fields[4]) / _TICKS_PER_S
