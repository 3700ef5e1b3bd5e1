"""Which simulcast layer of a screen a receiver gets (rtcd.md 3.7). Pure; made for a call once a second."""

from __future__ import annotations

from enum import Enum

LIVE_HIGH_ABOVE_BPS = 2_250_000
"""Of a track that is added to a running call a receiver gets `h` at once with more than this."""
UPGRADE_SHARE = 0.9
"""Of the high layer's own rate must fit into the estimate to go up."""
DOWNGRADE_SHARE = 0.7
"""Below the 0.85 of a single step down of the estimator, so that one step moves nobody."""
DOWNGRADE_AFTER_NS = 3_000_000_000
"""How long the estimate must be low if only delay says so: a short burst of jitter moves nobody."""
STOPPED_AFTER_NS = 2_000_000_000
FIRST_BACKOFF_NS = 10_000_000_000
BACKOFF_FACTOR = 1.5
MAX_BACKOFF_NS = 300_000_000_000
STABLE_NS = 60_000_000_000
"""After this time without a change the next one waits no longer than the first."""


class Layer(Enum):
    """By the rid of the publisher; a track without rid counts as low."""

    LOW = "l"
    HIGH = "h"


def layer_at_join() -> Layer:
    """Of a track that is there when a receiver joins."""
    return Layer.LOW


def layer_of_added_track(estimate_bps: int) -> Layer:
    """Of a track with rids that is published while the receiver is in the call."""
    return Layer.HIGH if estimate_bps > LIVE_HIGH_ABOVE_BPS else Layer.LOW


def has_stopped(newest_ns: int, other_newest_ns: int) -> bool:
    """Has a layer ended while the other goes on? By their newest arrivals.

    A screen on which nothing moves is quiet on both; a publisher short of bandwidth sends only the low one.
    """
    return other_newest_ns - newest_ns > STOPPED_AFTER_NS


class LayerSelector:
    """The decision for one receiver and one screen.

    Better than by the current layer's rate: an estimate that carries a quiet low layer says nothing about
    the high one.
    """

    __slots__ = ("_backoff_ns", "_changed_ns", "_low_since_ns", "layer")

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        """What the receiver should get now."""
        self._backoff_ns = FIRST_BACKOFF_NS
        self._changed_ns: int | None = None
        self._low_since_ns: int | None = None

    def evaluate(
        self,
        now_ns: int,
        *,
        estimate_bps: int,
        loss_based_bps: int,
        low_bps: int | None,
        high_bps: int | None,
    ) -> bool:
        """True when `layer` has changed: ask the new layer for a key frame and switch when it comes.

        `estimate_bps`: the lower of the delay-based and the loss-based estimate. `low_bps`, `high_bps`:
        measured rates of the publisher's layers; −1 not known yet, None there is no such track or it
        has stopped. After a change to HIGH set the estimator to `high_bps`.
        """
        if self.layer is Layer.LOW:
            return self._consider_high(now_ns, estimate_bps, high_bps)
        return self._consider_low(now_ns, estimate_bps, loss_based_bps, low_bps, high_bps)

    def _consider_high(self, now_ns: int, estimate_bps: int, high_bps: int | None) -> bool:
        if high_bps is None or high_bps <= 0 or estimate_bps <= UPGRADE_SHARE * high_bps:
            return False
        if self._changed_ns is not None:
            if now_ns - self._changed_ns >= STABLE_NS + self._backoff_ns:
                self._backoff_ns = FIRST_BACKOFF_NS
            elif now_ns - self._changed_ns < self._backoff_ns:
                return False
        self._change(Layer.HIGH, now_ns)
        return True

    def _consider_low(
        self,
        now_ns: int,
        estimate_bps: int,
        loss_based_bps: int,
        low_bps: int | None,
        high_bps: int | None,
    ) -> bool:
        if low_bps is None:
            return False  # nothing to go down to
        if high_bps is None:
            self._change(Layer.LOW, now_ns)
            return True
        if low_bps <= 0:
            return False
        enough = DOWNGRADE_SHARE * high_bps
        if high_bps < 0 or estimate_bps >= enough:
            self._low_since_ns = None
            return False
        if self._low_since_ns is None:
            self._low_since_ns = now_ns
        lost_too = loss_based_bps < enough
        if not lost_too and now_ns - self._low_since_ns < DOWNGRADE_AFTER_NS:
            return False
        self._change(Layer.LOW, now_ns)
        return True

    def _change(self, layer: Layer, now_ns: int) -> None:
        if self._changed_ns is not None:
            if now_ns - self._changed_ns >= STABLE_NS + self._backoff_ns:
                self._backoff_ns = FIRST_BACKOFF_NS
            else:
                self._backoff_ns = min(int(self._backoff_ns * BACKOFF_FACTOR), MAX_BACKOFF_NS)
        self.layer = layer
        self._changed_ns = now_ns
        self._low_since_ns = None
