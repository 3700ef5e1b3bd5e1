"""Is a queue building up on the way? Delay variation between groups of packets, and its trend.

The delay-based half of draft-ietf-rmcat-gcc-02 (sections 4 and 5) with the trendline filter that took the
place of its Kalman filter in WebRTC.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from rtc.sent_history import PacketResult

_BURST_NS = 5_000_000
"""Packets that were sent, or queued up and arrived, this close together are one group."""
_MAX_BURST_NS = 100_000_000
_NEVER_NS = -(1 << 62)
_WINDOW_GROUPS = 20
_SMOOTHING = 0.9
_GAIN = 4.0
_MAX_GROUPS_COUNTED = 60
_THRESHOLD_MS = 12.5
_MIN_THRESHOLD_MS, _MAX_THRESHOLD_MS = 6.0, 600.0
_THRESHOLD_UP, _THRESHOLD_DOWN = 0.0087, 0.039
_MAX_ADAPT_OFFSET_MS = 15.0
_OVERUSE_AFTER_MS = 10.0


class Usage(Enum):
    """Of the path: does what is sent fit through?"""

    NORMAL = "normal"
    OVER = "over"
    UNDER = "under"
    """A queue that has built up is draining."""


class DelayTrend:
    """Feed it every packet that was told about, in the order of sending; read `usage`."""

    __slots__ = (
        "_delay_us",
        "_group",
        "_groups",
        "_last_group",
        "_over_count",
        "_over_ms",
        "_points",
        "_slope_before",
        "_smoothed_us",
        "_sum_x",
        "_sum_xx",
        "_sum_xy",
        "_sum_y",
        "_threshold_ms",
        "_updated_ns",
        "usage",
    )

    def __init__(self) -> None:
        self.usage = Usage.NORMAL
        self._threshold_ms = _THRESHOLD_MS
        self._updated_ns = 0
        # (first sent, newest sent, first received, newest received)
        self._group = (_NEVER_NS, _NEVER_NS, 0, 0)
        self._last_group: tuple[int, int] | None = None
        self._groups = 0
        self._delay_us = 0
        self._smoothed_us = 0.0
        self._points: deque[tuple[int, int]] = deque()
        self._sum_x = self._sum_y = self._sum_xx = self._sum_xy = 0
        self._slope_before = 0.0
        self._over_ms = 0.0
        self._over_count = 0

    def feed(self, results: list[PacketResult]) -> None:
        """The packets of one feedback; the two clocks need not agree. Lost ones are passed over."""
        first_sent, last_sent, first_received, last_received = self._group
        for _, _, sent_ns, received_ns in results:
            if received_ns is None or sent_ns < first_sent:
                continue  # lost, or of a group that is finished
            if sent_ns - first_sent <= _BURST_NS:
                last_sent = sent_ns
                if received_ns > last_received:
                    last_received = received_ns
                continue
            since_last = received_ns - last_received
            if (
                since_last <= _BURST_NS
                and since_last < sent_ns - last_sent
                and received_ns - first_received < _MAX_BURST_NS
            ):
                # It waited behind the others in a queue: what arrives as one burst is one group.
                last_sent = sent_ns
                if received_ns > last_received:
                    last_received = received_ns
                continue
            self._group_ended(last_sent, last_received)
            first_sent = last_sent = sent_ns
            first_received = last_received = received_ns
        self._group = (first_sent, last_sent, first_received, last_received)

    def _group_ended(self, sent_ns: int, received_ns: int) -> None:
        if sent_ns == _NEVER_NS:
            return
        before, self._last_group = self._last_group, (sent_ns, received_ns)
        if before is None:
            return
        sent_delta, received_delta = sent_ns - before[0], received_ns - before[1]
        self._groups += 1
        self._delay_us += (received_delta - sent_delta) // 1000
        smoothed = _SMOOTHING * self._smoothed_us + (1 - _SMOOTHING) * self._delay_us
        self._smoothed_us = smoothed
        # Whole numbers, so that sums over the window can be kept up without an error that grows.
        self._add_point(received_ns // 1000, round(smoothed))
        if len(self._points) == _WINDOW_GROUPS:
            self._detect(self._slope(), sent_delta / 1e6, received_ns)

    def _add_point(self, x: int, y: int) -> None:
        points = self._points
        points.append((x, y))
        self._sum_x += x
        self._sum_y += y
        self._sum_xx += x * x
        self._sum_xy += x * y
        if len(points) > _WINDOW_GROUPS:
            x, y = points.popleft()
            self._sum_x -= x
            self._sum_y -= y
            self._sum_xx -= x * x
            self._sum_xy -= x * y

    def _slope(self) -> float:
        """Of the delay against time, by least squares."""
        count = len(self._points)
        width = count * self._sum_xx - self._sum_x * self._sum_x
        if width == 0:
            return self._slope_before
        return (count * self._sum_xy - self._sum_x * self._sum_y) / width

    def _detect(self, slope: float, sent_delta_ms: float, received_ns: int) -> None:
        trend_ms = min(self._groups, _MAX_GROUPS_COUNTED) * slope * _GAIN
        if trend_ms > self._threshold_ms:
            # The first time counts half: nobody knows when between the groups it began.
            self._over_ms += sent_delta_ms / 2 if self._over_count == 0 else sent_delta_ms
            self._over_count += 1
            if (
                self._over_ms > _OVERUSE_AFTER_MS
                and self._over_count > 1
                and slope >= self._slope_before
            ):
                self._over_ms = 0.0
                self._over_count = 0
                self.usage = Usage.OVER
        else:
            self._over_ms = 0.0
            self._over_count = 0
            self.usage = Usage.UNDER if trend_ms < -self._threshold_ms else Usage.NORMAL
        self._slope_before = slope
        self._adapt_threshold(abs(trend_ms), received_ns)

    def _adapt_threshold(self, trend_ms: float, received_ns: int) -> None:
        """So that a competing flow does not starve us, and noise does not count as overuse."""
        elapsed_ms = min((received_ns - self._updated_ns) / 1e6, 100.0) if self._updated_ns else 0.0
        self._updated_ns = received_ns
        if trend_ms > self._threshold_ms + _MAX_ADAPT_OFFSET_MS:
            return  # a sudden change, not noise
        gain = _THRESHOLD_UP if trend_ms > self._threshold_ms else _THRESHOLD_DOWN
        threshold = self._threshold_ms + gain * (trend_ms - self._threshold_ms) * elapsed_ms
        self._threshold_ms = min(max(threshold, _MIN_THRESHOLD_MS), _MAX_THRESHOLD_MS)
