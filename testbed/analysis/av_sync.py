"""How well sound and picture of the shared screen fit: each beep with its flash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

_SEARCH_S: Final = 0.45
"""Marks come once a second: what is further away belongs to another second."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One second's marks in the recording; None: not found."""

    true_s: float
    """When they were made."""
    beep_s: float | None
    flash_s: float | None

    @property
    def offset_s(self) -> float | None:
        """How much later than its beep the flash is seen."""
        if self.beep_s is None or self.flash_s is None:
            return None
        return self.flash_s - self.beep_s


@dataclass(frozen=True, slots=True)
class AvSync:
    """All pairs."""

    pairs: tuple[Pair, ...]

    @property
    def offsets_s(self) -> list[float]:
        return [pair.offset_s for pair in self.pairs if pair.offset_s is not None]

    @property
    def missing(self) -> list[Pair]:
        """Pairs of which one half or both were not found."""
        return [pair for pair in self.pairs if pair.offset_s is None]

    @property
    def median_s(self) -> float | None:
        return median(self.offsets_s) if self.offsets_s else None

    @property
    def worst_s(self) -> float | None:
        return max(self.offsets_s, key=abs) if self.offsets_s else None


def pair_marks(
    true_s: Sequence[float], beeps_s: Sequence[float], flashes_s: Sequence[float]
) -> AvSync:
    """For every true second the nearest beep, and the nearest flash, each used once."""
    beeps, flashes = list(beeps_s), list(flashes_s)
    return AvSync(
        tuple(
            Pair(at_s, _take_nearest(beeps, at_s), _take_nearest(flashes, at_s))
            for at_s in sorted(true_s)
        )
    )


def _take_nearest(times_s: list[float], at_s: float) -> float | None:
    nearest = min(times_s, key=lambda time_s: abs(time_s - at_s), default=None)
    if nearest is None or abs(nearest - at_s) > _SEARCH_S:
        return None
    times_s.remove(nearest)
    return nearest
