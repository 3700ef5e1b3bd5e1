"""Bit rate of a published layer over a sliding window (rtcd.md 3.7)."""

from __future__ import annotations

_BUCKET_NS = 100_000_000
_NS = 1_000_000_000
UNKNOWN = -1
"""The rate before there are enough samples."""


class RateMonitor:
    """Call `push` for each packet of the layer, or for many at once, and `rate_bps` when it matters."""

    __slots__ = ("_buckets", "_count", "_current", "_current_bytes", "_first", "_sum")

    def __init__(self, window_s: float) -> None:
        """`window_s`: 5 for layer `l`, 2 for `h`; whole tenths of a second."""
        self._count = round(window_s * _NS) // _BUCKET_NS
        self._buckets = [0] * self._count
        self._sum = 0
        self._current_bytes = 0
        self._current = -1
        self._first = -1

    def push(self, size: int, now_ns: int) -> None:
        """`size` bytes came at this monotonic time; time does not run back."""
        bucket = now_ns // _BUCKET_NS
        if bucket > self._current:
            self._advance(bucket)
        self._current_bytes += size

    def rate_bps(self, now_ns: int) -> int:
        """Bits per second over the newest full window; UNKNOWN until samples of two windows are there."""
        if self.duration_s(now_ns) < 2 * self._count * _BUCKET_NS / _NS:
            return UNKNOWN
        bucket = now_ns // _BUCKET_NS
        if bucket > self._current:
            self._advance(bucket)
        return self._sum * 8 * _NS // (self._count * _BUCKET_NS)

    def duration_s(self, now_ns: int) -> float:
        """Time since the first sample, in whole buckets; 0 before it."""
        if self._first < 0:
            return 0.0
        return (max(now_ns // _BUCKET_NS, self._current) - self._first) * _BUCKET_NS / _NS

    def reset(self) -> None:
        """Forget everything: the layer stopped or changed."""
        self._buckets = [0] * self._count
        self._sum = self._current_bytes = 0
        self._current = self._first = -1

    def _advance(self, bucket: int) -> None:
        """Close the buckets before this one."""
        if self._first < 0:
            self._first = self._current = bucket
            return
        count = self._count
        for number in range(self._current, min(bucket, self._current + count)):
            slot = number % count
            self._sum += self._current_bytes - self._buckets[slot]
            self._buckets[slot] = self._current_bytes
            self._current_bytes = 0
        if bucket - self._current > count:  # a pause longer than the window
            self._buckets = [0] * count
            self._sum = 0
        self._current = bucket
