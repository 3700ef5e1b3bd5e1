"""How much one session may publish: how many tracks, how fast each."""

from __future__ import annotations

from collections.abc import Sized

from foundation.logs import get_logger
from sfu.limits import Limits
from sfu.metrics import SfuMetrics


class PublisherLimits:
    """Counts what is over the limits of one session; of each kind the log tells once."""

    def __init__(self, limits: Limits, metrics: SfuMetrics, session_id: str, group_id: str) -> None:
        self._limits = limits
        self.bit_rate = limits.bit_rate
        self._group_id = group_id
        self._metrics = metrics
        self._surplus: set[str] = set()
        """Sections beyond the limit of tracks, since the newest description."""
        self._complained: set[str] = set()
        self._log = get_logger(component="publisher", session_id=session_id)

    def announced(self) -> None:
        """There is a new description: what is too much in it counts anew."""
        self._surplus.clear()

    def full(self, tracks: Sized, mid: str) -> bool:
        """Would a track of section `mid` be more than the session may publish? Then it is counted."""
        most = self._limits.session_tracks
        if not most or len(tracks) < most:
            return False
        if mid not in self._surplus:
            self._surplus.add(mid)
            self._metrics.add("rtcd_rtc_refused_total", self._group_id, "track")
        self._complain("track.refused", f"{most} tracks are published: see limits.session_tracks")
        return True

    def too_fast(self, kind: str, packets: int) -> None:
        """So many packets of a track of that kind were dropped for its bit rate."""
        if packets:
            name = "rtcd_rtc_packets_dropped_total"
            self._metrics.add(name, self._group_id, "bit_rate", amount=packets)
            setting = f"limits.{kind}_bits_per_second"
            self._complain("track.too_fast", f"the rest is dropped: see {setting}")

    def _complain(self, event: str, reason: str) -> None:
        if event not in self._complained:
            self._complained.add(event)
            self._log.warning(event, reason=reason)
