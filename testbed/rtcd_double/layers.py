"""Which simulcast layer a receiver gets (rtcd.md 3.7). Pure; times are monotonic ns.

The bandwidth estimate stands in for the original's: it moves only when the receiver reports packets with
transport-cc, grows while next to nothing is lost, and shrinks with loss.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from testbed.rtcd_double.script import Script

Layer = Literal["l", "h"]
_NS = 1_000_000_000
_TOLERANCE = 0.9
_HIGH_NOMINAL_BPS = 2_500_000
_SMALLEST_ESTIMATE_BPS = 250_000
_GROWTH = 1.08
_LOSS_THAT_SHRINKS = 0.1
_LOSS_THAT_STOPS = 0.02


class RateMonitor:
    """Bits per second of one source over a sliding window; −1 until twice the window was observed."""

    def __init__(self, window_s: float) -> None:
        self._window_ns = round(window_s * _NS)
        self._samples: deque[tuple[int, int]] = deque()
        self._since_ns: int | None = None
        self._bytes = 0

    def push(self, size_bytes: int, now_ns: int) -> None:
        """One packet."""
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        self._samples.append((now_ns, size_bytes))
        self._bytes += size_bytes
        while self._samples[0][0] <= now_ns - self._window_ns:
            self._bytes -= self._samples.popleft()[1]

    def rate_bps(self, now_ns: int) -> int:
        if self._since_ns is None or now_ns - self._since_ns < 2 * self._window_ns:
            return -1
        return self._bytes * 8 * _NS // self._window_ns


class LayerChoice:
    """One receiver's estimate and its layer; the layer outlives a share."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.estimate_bps = script.first_estimate_bps
        self._wait_s = script.switch_wait_s
        self._changed_ns: int | None = None
        self._shrank = False

    @property
    def for_new_screen(self) -> Layer:
        """For a share that starts while the receiver is there; who joins later gets `l`."""
        return "h" if self.estimate_bps > _TOLERANCE * _HIGH_NOMINAL_BPS else "l"

    def reported(self, *, received: int, lost: int) -> None:
        """A transport-cc report came."""
        total = received + lost
        if not total:
            return
        before = self.estimate_bps
        if lost / total > _LOSS_THAT_SHRINKS:
            self.estimate_bps = max(
                _SMALLEST_ESTIMATE_BPS, round(before * (1 - 0.5 * lost / total))
            )
        elif lost / total < _LOSS_THAT_STOPS:
            self.estimate_bps = min(self._script.largest_estimate_bps, round(before * _GROWTH))
        self._shrank = self.estimate_bps < before

    def wanted(self, current: Layer, *, current_bps: int, other_bps: int, now_ns: int) -> Layer:
        """The layer to switch to, or the current one. The rates are those measured at the source."""
        waited = (self._changed_ns is None or now_ns - self._changed_ns >= self._wait_s * _NS) or (
            current == "h" and self._shrank
        )
        if not waited or current_bps <= 0 or other_bps <= 0:
            return current
        # Compared with the current layer, not with the wanted one: going up comes easily.
        return "h" if self.estimate_bps > _TOLERANCE * current_bps else "l"

    def changed(self, layer: Layer, *, rate_bps: int, now_ns: int) -> None:
        """The switch was queued."""
        self._changed_ns = now_ns
        self._wait_s *= 1.5  # and never shrinks again
        if layer == "h":
            self.estimate_bps = rate_bps
