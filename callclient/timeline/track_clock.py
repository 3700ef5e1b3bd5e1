"""RTP timestamps of one SSRC on the host's monotonic clock. Pure: packets in, times out.

Inside a talk spurt time advances with the RTP timestamp, which has no network jitter; where the spurt
lies is told by the packets that travelled fastest (minimum filter over arrival minus RTP time). After
a pause the two clocks may disagree, because muted publishers stop their RTP clock or let it run
(calls-plugin.md trap 29): then arrival decides and a new spurt begins.
"""

from __future__ import annotations

from rtc.rtp import Unwrapper

_NS = 1_000_000_000
RESYNC_NS = 100_000_000
"""After a pause RTP and arrival may disagree this much before arrival wins. Larger than queueing on a
loaded host, smaller than what a listener takes for a gap."""
STEP_NS = 1_000_000_000
"""A lag this large without a pause is a step back of the sender's clock, not the network."""
PAUSE_NS = 300_000_000
"""No packet for this long ends a talk spurt."""
DRIFT_RATE = 0.001
"""How fast the filter follows a slow sender: 1 ms a second, five times the worst clock (200 ppm)."""


class TrackClock:
    """Made once for each SSRC."""

    def __init__(self, clock_rate_hz: int) -> None:
        self._clock_rate_hz = clock_rate_hz
        self._unwrapper = Unwrapper(32)
        self._offset_ns: float | None = None
        self._last_arrival_ns = 0
        self._last_time_ns = 0

    def place(self, rtp_timestamp: int, arrival_ns: int) -> int:
        """When the media with this timestamp was captured; never before the last answer."""
        media_ns = self._unwrapper.unwrap(rtp_timestamp) * _NS // self._clock_rate_hz
        observed_ns = arrival_ns - media_ns
        if self._offset_ns is None:
            self._offset_ns = observed_ns
        else:
            since_ns = arrival_ns - self._last_arrival_ns
            lag_ns = observed_ns - self._offset_ns
            paused = since_ns > PAUSE_NS and lag_ns > RESYNC_NS
            if lag_ns < 0 or paused or lag_ns > STEP_NS:
                self._offset_ns = observed_ns
            else:
                followed_ns = min(max(since_ns, 0), PAUSE_NS) * DRIFT_RATE
                self._offset_ns += min(lag_ns, followed_ns)
        self._last_arrival_ns = max(self._last_arrival_ns, arrival_ns)
        self._last_time_ns = max(self._last_time_ns, round(media_ns + self._offset_ns))
        return self._last_time_ns
