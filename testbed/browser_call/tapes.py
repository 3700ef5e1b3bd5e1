"""What testbed/web/stage.js kept in a page: tapes of its tracks, and when it drew which picture."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import numpy as np

from testbed.analysis.media import ANALYSIS_HZ, Samples, Sound

_MS_NS: Final = 1_000_000
_NS: Final = 1_000_000_000
_GAP_NS: Final = 40 * _MS_NS
"""Blocks are told to a few milliseconds, some of them by 20: farther apart than this, sound is missing."""
_FULL_SCALE: Final = 32768


@dataclass(slots=True)
class Tape:
    """What one track carried, in runs without gaps."""

    _runs: list[_Run] = field(default_factory=list)

    def add(self, blocks: Sequence[Sequence[float]], pcm: bytes, *, origin_ns: int) -> None:
        """`blocks`: [time of the first sample in ms, count], of a page that began at `origin_ns`."""
        samples: Samples = (np.frombuffer(pcm, "<i2") / _FULL_SCALE).astype(np.float32)
        position = 0
        for at_ms, length in blocks:
            count = int(length)
            at_ns = origin_ns + round(at_ms * _MS_NS)
            if not self._runs or abs(at_ns - self._runs[-1].end_ns) > _GAP_NS:
                self._runs.append(_Run())
            self._runs[-1].add(at_ns, samples[position : position + count])
            position += count

    def sound(self, zero_ns: int) -> Sound:
        """Everything on one time line that begins at `zero_ns`; silence where nothing is known."""
        if not self._runs:
            return Sound(np.zeros(0, np.float32), ANALYSIS_HZ)
        first_ns = min(run.start_ns for run in self._runs)
        last_ns = max(run.end_ns for run in self._runs)
        total = np.zeros(_samples(last_ns - first_ns) + 1, np.float32)
        for run in self._runs:
            samples = run.samples()
            start = _samples(run.start_ns - first_ns)
            part = total[start : start + len(samples)]
            part[:] = samples[: len(part)]
        return Sound(total, ANALYSIS_HZ, (first_ns - zero_ns) / _NS)


@dataclass(slots=True)
class Show:
    """One shared screen."""

    share: int
    drawn: list[tuple[int, int]] = field(default_factory=list)
    """(number, when), ns."""


@dataclass(slots=True)
class PageEvidence:
    """Everything of one page from its load to its end."""

    tapes: dict[str, Tape] = field(default_factory=dict)
    shows: dict[int, Show] = field(default_factory=dict)

    def add(self, taken: Mapping[str, Any], *, origin_ns: int) -> None:
        """The result of `takeEvidence()` in a page whose `performance.now()` was 0 at `origin_ns`."""
        for heard in taken["heard"]:
            if heard["rate"] != ANALYSIS_HZ:
                raise ValueError(f"a tape has {heard['rate']} Hz, should have {ANALYSIS_HZ}")
            tape = self.tapes.setdefault(heard["name"], Tape())
            tape.add(heard["blocks"], base64.b64decode(heard["base64"]), origin_ns=origin_ns)
        for seen in taken["seen"]:
            show = self.shows.setdefault(seen["share"], Show(seen["share"]))
            show.drawn += [(n, origin_ns + round(ms * _MS_NS)) for n, ms in seen["drawn"]]


class _Run:
    """Blocks that follow each other; their own times jitter, their samples do not."""

    def __init__(self) -> None:
        self._blocks: list[Samples] = []
        self._starts_ns: list[int] = []
        """Where the run began by each block's time."""
        self._count = 0

    def add(self, at_ns: int, samples: Samples) -> None:
        self._starts_ns.append(at_ns - self._duration_ns)
        self._blocks.append(samples)
        self._count += len(samples)

    @property
    def start_ns(self) -> int:
        return round(median(self._starts_ns))

    @property
    def end_ns(self) -> int:
        # By the last few: median of all would cost its square.
        return round(median(self._starts_ns[-9:])) + self._duration_ns

    def samples(self) -> Samples:
        return np.concatenate(self._blocks)

    @property
    def _duration_ns(self) -> int:
        return self._count * _NS // ANALYSIS_HZ


def _samples(duration_ns: int) -> int:
    return round(duration_ns * ANALYSIS_HZ / _NS)
