"""The lowest value of the last seconds. Pure."""

from __future__ import annotations

from collections import deque


class Floor:
    """Minimum over a sliding window of whole buckets: O(1) for each value, a handful of numbers kept.

    A bucket ends with the first value after its time, so a pause makes nothing old: what was measured
    before it still counts until new values replace it, bucket by bucket.
    """

    __slots__ = ("_bucket_ns", "_lowest", "_older", "_since_ns", "value")

    def __init__(self, value: int, now_ns: int, *, bucket_ns: int, buckets: int) -> None:
        """The first value; the window is `buckets` × `bucket_ns` long at most, one less at least."""
        self._bucket_ns = bucket_ns
        self._older: deque[int] = deque(maxlen=buckets - 1)
        self._lowest = value
        self._since_ns = now_ns
        self.value = value

    def observe(self, value: int, now_ns: int) -> None:
        """One more value; `now_ns` does not go back by more than a bucket."""
        if now_ns - self._since_ns > self._bucket_ns:
            self._older.append(self._lowest)
            self._lowest, self._since_ns = value, now_ns
            self.value = min(value, *self._older)
        elif value < self._lowest:
            self._lowest = value
            if value < self.value:
                self.value = value
