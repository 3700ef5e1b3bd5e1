"""How far sounds and pictures lie from where they belong, and from each other. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from testbed.bots.voice import BEEP_S

_EDGE_S: Final = 0.006
"""How exactly the length of a whole beep is found."""
_SEARCH_S: Final = 0.45
"""Marks come once a second: what is farther away belongs to another second."""


@dataclass(frozen=True, slots=True)
class MarkPair:
    """A flash of the shared screen and the beep of the same second, if one was sent. Recording time, s."""

    flash_true_s: float
    beep_true_s: float | None
    """None: the sharer was muted."""
    flash_s: float | None = None
    """None: not found."""
    beep_s: float | None = None

    @property
    def flash_error_s(self) -> float | None:
        return None if self.flash_s is None else self.flash_s - self.flash_true_s

    @property
    def beep_error_s(self) -> float | None:
        if self.beep_s is None or self.beep_true_s is None:
            return None
        return self.beep_s - self.beep_true_s

    @property
    def offset_s(self) -> float | None:
        """How much later than its sound the picture is, the clocks of both devices taken into account."""
        if self.flash_error_s is None or self.beep_error_s is None:
            return None
        return self.flash_error_s - self.beep_error_s


@dataclass(frozen=True, slots=True)
class Spread:
    """Of some errors."""

    count: int
    median_s: float
    """Of the errors as they are: a constant delay shows."""
    p99_s: float
    """Of their amounts."""
    worst_s: float

    @classmethod
    def of(cls, errors_s: Sequence[float]) -> Spread | None:
        """None without any."""
        if not errors_s:
            return None
        amounts = sorted(map(abs, errors_s))
        p99 = amounts[math.ceil(0.99 * len(amounts)) - 1]
        return cls(len(errors_s), median(errors_s), p99, amounts[-1])

    def public(self) -> dict[str, Any]:
        """Milliseconds, as people want them."""
        return {
            "count": self.count,
            "median_ms": round(self.median_s * 1000, 1),
            "p99_ms": round(self.p99_s * 1000, 1),
            "worst_ms": round(self.worst_s * 1000, 1),
        }


def pair_up(
    flashes_true_s: Sequence[float],
    beeps_true_s: Sequence[float],
    *,
    flashes_s: Sequence[float],
    beeps_s: Sequence[tuple[float, float]],
) -> list[MarkPair]:
    """One pair for each true flash; what was found is used once.

    `beeps_s`: beginnings and ends.
    """
    found_flashes = sorted(flashes_s)
    spans = dict(sorted(beeps_s))
    found_beeps = list(spans)
    true_beeps = sorted(beeps_true_s)
    pairs = []
    for flash_true_s in sorted(flashes_true_s):
        flash_s = _take_nearest(found_flashes, flash_true_s)
        beep_true_s = _take_nearest(true_beeps, flash_true_s)
        beep_s = None
        if beep_true_s is not None:
            beep_s = _take_nearest(found_beeps, beep_true_s)
            if beep_s is not None:
                beep_s = _trusted(beep_s, spans[beep_s], beep_true_s)
        pairs.append(MarkPair(flash_true_s, beep_true_s, flash_s, beep_s))
    return pairs


def _trusted(start_s: float, end_s: float, true_s: float) -> float:
    """When the beep began; by its end where it is too short or too long.

    The packet of its one edge was lost then, and that edge is made up: it tells nothing about time.
    """
    if abs(end_s - start_s - BEEP_S) <= _EDGE_S:
        return start_s
    return min(start_s, end_s - BEEP_S, key=lambda at_s: abs(at_s - true_s))


def _take_nearest(times_s: list[float], at_s: float) -> float | None:
    nearest = min(times_s, key=lambda time_s: abs(time_s - at_s), default=None)
    if nearest is None or abs(nearest - at_s) > _SEARCH_S:
        return None
    times_s.remove(nearest)
    return nearest
