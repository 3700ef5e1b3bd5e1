"""A histogram of durations with buckets that grow with the value: small, quick to fill, easy to merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STEPS = 16
_SHIFT = 4
_BUCKETS = (64 - _SHIFT) * _STEPS


class Histogram:
    """Counts nanoseconds; each power of two has 16 buckets, so a percentile is within 1/32 of the truth."""

    __slots__ = ("_counts", "count", "max_ns")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.max_ns = 0

    def record(self, value_ns: int) -> None:
        """Count one duration; what is below zero counts as zero."""
        if value_ns < _STEPS:
            index = value_ns if value_ns > 0 else 0
        else:
            shift = value_ns.bit_length() - 1 - _SHIFT
            index = (shift << _SHIFT) + (value_ns >> shift)
        self._counts[index] += 1
        self.count += 1
        if value_ns > self.max_ns:
            self.max_ns = value_ns

    def percentile_ns(self, share: float) -> int | None:
        """The value that `share` (0–1) of all are at or below, the middle of its bucket; None when empty."""
        if not self.count:
            return None
        wanted = max(1, -(-self.count * share // 1))
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(_middle_ns(index), self.max_ns)
        return self.max_ns

    def merge(self, other: Histogram) -> None:
        """Add all that the other one has counted."""
        for index, count in enumerate(other._counts):
            self._counts[index] += count
        self.count += other.count
        self.max_ns = max(self.max_ns, other.max_ns)

    def to_json(self) -> dict[str, Any]:
        """For `from_json` in another process."""
        counts = {str(index): count for index, count in enumerate(self._counts) if count}
        return {"counts": counts, "max_ns": self.max_ns}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Histogram:
        histogram = cls()
        for index, count in document["counts"].items():
            histogram._counts[int(index)] = count
            histogram.count += count
        histogram.max_ns = document["max_ns"]
        return histogram


def _middle_ns(index: int) -> int:
    if index < _STEPS:
        return index
    shift = (index >> _SHIFT) - 1
    low = (_STEPS + index % _STEPS) << shift
    return low + (1 << shift) // 2
