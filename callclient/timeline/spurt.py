"""A stretch of one source in which its RTP clock runs evenly, and where it lies in time. Pure.

Every packet tells when it was captured at the latest: its arrival. Those that travelled fastest tell it
best, so the offset between RTP time and ours follows the lowest of the last seconds, and never jumps.
"""

from __future__ import annotations

from typing import Final

from callclient.timeline.floor import Floor

_NS: Final = 1_000_000_000
_ARRIVAL_BUCKET_NS: Final = 5 * _NS
_ARRIVAL_BUCKETS: Final = 4
_REPORT_BUCKET_NS: Final = 10 * _NS
_REPORT_BUCKETS: Final = 3
_RISE_PER_NS: Final = 1000
"""1 ms a second: five times what the worst clock drifts (200 ppm)."""
_FALL_TIME_NS: Final = 250_000_000
"""A start that was believed too late is corrected with this time constant."""
_FALL_PER_NS: Final = 20
"""… and at least 50 ms a second."""
_MAX_STEP_NS: Final = _NS
_MOST_UNLUCKY: Final = 4
"""Times what is to be expected; more is no ill luck: the way is not what it was."""
REPORT_LEAD_NS: Final = 150_000_000
"""Sender reports may place media this much before the fastest packet: encoders and pacers take time that
the packets alone do not show. More is a wrong clock."""


class Spurt:
    """Made by `SourceClock` when a source begins, and when its clock has stopped or jumped."""

    __slots__ = (
        "_adjusted_ns",
        "_arrivals",
        "_highest_ns",
        "_observed",
        "_observed_ns",
        "_reports",
        "_smooth",
        "offset_ns",
        "start",
    )

    def __init__(self, *, start: int, offset_ns: int, now_ns: int, smooth: bool) -> None:
        """`start`: unwrapped sequence number of its first packet. `offset_ns`: call time minus RTP time.

        `smooth`: corrections are spread over many packets, as sound wants it; else made at once.
        """
        self.start = start
        self.offset_ns = offset_ns
        self._smooth = smooth
        self._observed, self._observed_ns, self._highest_ns = 1, offset_ns, offset_ns
        self._adjusted_ns = now_ns
        self._arrivals = Floor(
            offset_ns, now_ns, bucket_ns=_ARRIVAL_BUCKET_NS, buckets=_ARRIVAL_BUCKETS
        )
        self._reports: Floor | None = None

    def gather(self, observed_ns: int, now_ns: int) -> None:
        """A packet came while nothing of the spurt has been placed yet; `settle` in the end."""
        self._arrivals.observe(observed_ns, now_ns)
        self._observed += 1
        self._observed_ns += observed_ns
        self._highest_ns = max(self._highest_ns, observed_ns)
        self._adjusted_ns = max(self._adjusted_ns, now_ns)

    def settle(self, unevenness_ns: int | None) -> None:
        """Place it by all that is known; `unevenness_ns`: of the way, as the spurts before have shown it.

        The fastest of n packets is slower than the way allows, by the n-th part of the unevenness: even
        delays of 0 to J have their mean at J/2 and their least at J/(n+1). What is still missing between the
        fastest and the slowest one is missing at both ends.
        """
        lowest_ns = self._arrivals.value
        mean_ns = self._observed_ns // self._observed
        early_ns = 2 * (mean_ns - lowest_ns) // (self._observed + 1)
        if unevenness_ns is not None:
            missing_ns = unevenness_ns - (self._highest_ns - lowest_ns)
            if 0 <= missing_ns // 2 <= _MOST_UNLUCKY * early_ns:
                early_ns = missing_ns // 2
        self.offset_ns = max(
            min(lowest_ns - early_ns, self._target_ns()), lowest_ns - REPORT_LEAD_NS
        )

    def arrived(self, observed_ns: int, now_ns: int) -> None:
        """A packet came: `observed_ns` is its arrival minus its RTP time."""
        self._arrivals.observe(observed_ns, now_ns)
        error_ns = self._target_ns() - self.offset_ns
        if error_ns:
            self._correct(error_ns, min(max(now_ns - self._adjusted_ns, 0), _MAX_STEP_NS))
        self._adjusted_ns = max(self._adjusted_ns, now_ns)

    def reported(self, observed_ns: int, now_ns: int) -> bool:
        """A sender report tells the offset; False: too far off to be of this spurt and clock."""
        if not -REPORT_LEAD_NS <= observed_ns - self._arrivals.value <= 2 * REPORT_LEAD_NS:
            return False
        if self._reports is None:
            self._reports = Floor(
                observed_ns, now_ns, bucket_ns=_REPORT_BUCKET_NS, buckets=_REPORT_BUCKETS
            )
        else:
            self._reports.observe(observed_ns, now_ns)
        return True

    def _target_ns(self) -> int:
        lowest_ns = self._arrivals.value
        if self._reports is None:
            return lowest_ns
        return max(lowest_ns - REPORT_LEAD_NS, min(lowest_ns, self._reports.value))

    def _correct(self, error_ns: int, elapsed_ns: int) -> None:
        if error_ns > 0:
            self.offset_ns += min(error_ns, elapsed_ns // _RISE_PER_NS)
        elif self._smooth:
            fall_ns = elapsed_ns // _FALL_PER_NS - error_ns * elapsed_ns // _FALL_TIME_NS
            self.offset_ns -= min(-error_ns, fall_ns)
        else:
            self.offset_ns += error_ns
