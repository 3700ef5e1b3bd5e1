"""How much one receiver can take, and which simulcast layers follow from it (rtcd.md 3.7)."""

from __future__ import annotations

from typing import Literal

from rtc.bandwidth import INITIAL_BPS, BandwidthEstimator
from rtc.fanout import Egress
from rtc.sent_history import SentHistory
from sfu.forwarding.down_track import DownTrack
from sfu.forwarding.layers import Layer, has_stopped

FEEDBACK_LOST_NS = 3_000_000_000
"""A receiver that tells nothing for so long gets the lowest layer: perhaps it cannot even tell."""


class Congestion:
    """Of one receiver. Costs nothing before `begin`, as most receivers never get a layered track."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._estimator: BandwidthEstimator | None = None
        self._fed_ns: int | None = None

    def begin(self) -> None:
        """From now on packets are remembered and feedback is read; idempotent."""
        if self._estimator is None:
            self._estimator = BandwidthEstimator()
            self._egress.history = SentHistory(first=self._egress.transport_sequence)

    @property
    def estimate_bps(self) -> int:
        return INITIAL_BPS if self._estimator is None else self._estimator.estimate_bps

    def feedback(self, body: bytes, now_ns: int) -> None:
        """The receiver's transport-wide feedback."""
        if self._estimator is not None and self._egress.history is not None:
            self._estimator.feedback(self._egress.history.acknowledge(body), now_ns)
            self._fed_ns = now_ns

    def choose_layer(self, down: DownTrack, now_ns: int) -> Literal["up", "down"] | None:
        """Once a second for each layered track; tells a change."""
        estimator = self._estimator
        if estimator is None:
            return None
        if self._fed_ns is not None and now_ns - self._fed_ns > FEEDBACK_LOST_NS:
            estimator.set_target(INITIAL_BPS)
        low = down.up.encodings.get(Layer.LOW.value)
        high = down.up.encodings.get(Layer.HIGH.value)
        if high is not None and low is not None and has_stopped(high.newest_ns, low.newest_ns):
            high = None  # a publisher short of bandwidth sends only the low one
        high_bps = None if high is None else high.rate_bps(now_ns)
        changed = down.selector.evaluate(
            now_ns,
            estimate_bps=estimator.estimate_bps,
            loss_based_bps=estimator.loss_based_bps,
            low_bps=None if low is None else low.rate_bps(now_ns),
            high_bps=high_bps,
        )
        if not changed:
            return None
        down.request_key_frame(now_ns)
        if down.selector.layer is Layer.LOW:
            return "down"
        estimator.set_target(high_bps or estimator.estimate_bps)
        return "up"
