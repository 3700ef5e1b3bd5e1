"""How much one receiver can take, estimated by the sender from transport-wide feedback.

Google congestion control (draft-ietf-rmcat-gcc-02) for a sender that does not pace and cannot send more
than its sources give: while that is little, the estimate grows untested, and the first step up is the test.
"""

from __future__ import annotations

import math
from collections import deque

from rtc.delay_trend import DelayTrend, Usage
from rtc.sent_history import PacketResult

INITIAL_BPS = 250_000
MAX_BPS = 3_750_000
_NS = 1_000_000_000
_ACKED_WINDOW_NS = 500_000_000
_ACKED_PAUSE_NS = 1_000_000_000
_LOSS_WINDOW_NS = 1_000_000_000
_MIN_LOSS_PACKETS = 20
_START_GROWTH = 1.25
"""Each second, until the first sign of congestion."""
_GROWTH = 1.08
_DECREASE = 0.85
_MAX_DECREASE = 0.5
"""A single step: what arrives is a poor measure of the path while little is sent."""
_CAPACITY_SPREAD = 0.1
_CAPACITY_VALID_NS = 15_000_000_000
"""After so long without congestion the path may have become another one."""
_LOW_LOSS = 0.03
"""The draft has 0.02, where random loss of 2 % would hold the estimate down."""
_HIGH_LOSS = 0.10
_LOSS_GROWTH = 1.27
_LOSS_STEP_NS = 300_000_000
"""Between two steps down; what was sent before a step does not count for the next one."""


class BandwidthEstimator:
    """Of one receiver. Give it what `SentHistory.acknowledge` says, each time; read `estimate_bps`."""

    __slots__ = (
        "_acked",
        "_capacity_bps",
        "_congested",
        "_decreased_ns",
        "_delay_trend",
        "_loss_decreased_ns",
        "_losses",
        "_max_bps",
        "_min_bps",
        "_updated_ns",
        "acked_bps",
        "delay_based_bps",
        "loss_based_bps",
        "loss_ratio",
        "rtt_ns",
    )

    def __init__(
        self,
        *,
        initial_bps: int = INITIAL_BPS,
        min_bps: int = INITIAL_BPS,
        max_bps: int = MAX_BPS,
    ) -> None:
        self._min_bps = min_bps
        self._max_bps = max_bps
        self._delay_trend = DelayTrend()
        # Of each feedback: (newest arrival on the receiver's clock, bytes).
        self._acked: deque[tuple[int, int]] = deque()
        # Of each feedback: (now, packets, lost).
        self._losses: deque[tuple[int, int, int]] = deque()
        self._updated_ns = 0
        self._decreased_ns = self._loss_decreased_ns = -_CAPACITY_VALID_NS
        self._capacity_bps: float | None = None
        self._congested = False
        self.delay_based_bps = initial_bps
        self.loss_based_bps = max_bps
        self.acked_bps: int | None = None
        """What arrives; None until there is half a second of it."""
        self.loss_ratio = 0.0
        """Of the last second."""
        self.rtt_ns = 100_000_000

    @property
    def estimate_bps(self) -> int:
        """The lower of both estimates, within the limits."""
        return max(self._min_bps, min(self.delay_based_bps, self.loss_based_bps, self._max_bps))

    def set_target(self, bitrate_bps: int) -> None:
        """Go on from this estimate: another layer is sent from now on, and the next feedbacks test it."""
        target = max(self._min_bps, min(bitrate_bps, self._max_bps))
        self.delay_based_bps = self.loss_based_bps = target

    def feedback(self, results: list[PacketResult], now_ns: int) -> int:
        """Take the results of one feedback; returns the estimate."""
        if not results:
            return self.estimate_bps
        arrived = lost = size_sum = newest_ns = newest_sent_ns = 0
        self._delay_trend.feed(results)
        counts_from_ns = self._loss_decreased_ns
        recent = 0
        for _, size, sent_ns, received_ns in results:
            if sent_ns >= counts_from_ns:
                recent += 1
                if received_ns is None:
                    lost += 1
            if received_ns is None:
                continue
            arrived += 1
            size_sum += size
            newest_sent_ns = sent_ns
            if received_ns > newest_ns:
                newest_ns = received_ns
        if arrived:
            self.rtt_ns += (now_ns - newest_sent_ns - self.rtt_ns) // 8
            self._update_acked(newest_ns, size_sum)
        self._update_loss(recent, lost, now_ns)
        # After a pause in the feedback nothing is made up for.
        elapsed_s = min(now_ns - self._updated_ns, _NS) / _NS if self._updated_ns else 0.0
        self._updated_ns = now_ns
        self._update_delay_based(now_ns, elapsed_s)
        self._update_loss_based(now_ns, elapsed_s)
        return self.estimate_bps

    def _update_acked(self, newest_ns: int, size_sum: int) -> None:
        acked = self._acked
        if acked:
            if abs(newest_ns - acked[-1][0]) > _ACKED_PAUSE_NS:
                # A pause says nothing of the path; nor does a receiver whose clock has started again.
                acked.clear()
                self.acked_bps = None
            else:
                newest_ns = max(
                    newest_ns, acked[-1][0]
                )  # a late packet is told apart from the others
        acked.append((newest_ns, size_sum))
        while len(acked) > 2 and newest_ns - acked[1][0] >= _ACKED_WINDOW_NS:
            acked.popleft()
        span_ns = newest_ns - acked[0][0]
        if span_ns >= _ACKED_WINDOW_NS // 2:
            total = sum(size for _, size in acked) - acked[0][1]
            self.acked_bps = total * 8 * _NS // span_ns

    def _update_loss(self, packets: int, lost: int, now_ns: int) -> None:
        losses = self._losses
        losses.append((now_ns, packets, lost))
        while now_ns - losses[0][0] > _LOSS_WINDOW_NS:
            losses.popleft()
        packets = sum(count for _, count, _ in losses)
        if packets >= _MIN_LOSS_PACKETS:
            self.loss_ratio = sum(count for _, _, count in losses) / packets

    def _update_delay_based(self, now_ns: int, elapsed_s: float) -> None:
        usage = self._delay_trend.usage
        if usage is Usage.OVER:
            response_ns = min(max(self.rtt_ns, 100_000_000), 300_000_000)
            if now_ns - self._decreased_ns >= response_ns:
                self._decrease(now_ns)
        elif usage is Usage.NORMAL:
            if now_ns - self._decreased_ns > _CAPACITY_VALID_NS:
                self._capacity_bps = None
            self._increase(elapsed_s)

    def _decrease(self, now_ns: int) -> None:
        current = self.delay_based_bps
        acked = self.acked_bps if self.acked_bps is not None else current
        if acked >= _MAX_DECREASE * current:
            before = self._capacity_bps
            if before is None or abs(acked - before) > 3 * _CAPACITY_SPREAD * before:
                self._capacity_bps = acked
            else:
                self._capacity_bps = 0.7 * before + 0.3 * acked
        target = max(_DECREASE * acked, _MAX_DECREASE * current)
        # An estimate that was far above what is sent comes down too: at least one step.
        self.delay_based_bps = max(self._min_bps, int(min(target, _DECREASE * current)))
        self._decreased_ns = now_ns
        self._congested = True

    def _increase(self, elapsed_s: float) -> None:
        current = self.delay_based_bps
        capacity = self._capacity_bps
        if capacity is not None and (self.acked_bps or 0) > capacity * (1 + _CAPACITY_SPREAD):
            self._capacity_bps = capacity = None  # it carries more than it did
        if capacity is not None and current > capacity * (1 - _CAPACITY_SPREAD):
            response_s = self.rtt_ns / _NS + 0.1
            # Half a packet more for each response time, as the draft has it.
            packet_bits = current / 30 / max(1, math.ceil(current / 30 / 9600))
            grown = current + max(4000.0, 0.5 * packet_bits / response_s) * elapsed_s
        else:
            growth = _GROWTH if self._congested else _START_GROWTH
            grown = current * growth**elapsed_s
        self.delay_based_bps = min(self._max_bps, int(grown) + 1)

    def _update_loss_based(self, now_ns: int, elapsed_s: float) -> None:
        if self.loss_ratio < _LOW_LOSS:
            grown = self.loss_based_bps * _LOSS_GROWTH**elapsed_s
            self.loss_based_bps = min(self._max_bps, int(grown) + 1)
        elif self.loss_ratio > _HIGH_LOSS and now_ns - self._loss_decreased_ns >= _LOSS_STEP_NS:
            current = self.estimate_bps
            self.loss_based_bps = max(self._min_bps, int(current * (1 - 0.5 * self.loss_ratio)))
            self._loss_decreased_ns = now_ns
            self._losses.clear()
            self.loss_ratio = 0.0
            self._congested = True
