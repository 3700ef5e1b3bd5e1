"""Offers and answers as they come: unpacked within limits, the rest refused and counted."""

from __future__ import annotations

from rtc import calls_dc
from rtc.calls_dc import DcError, DcTooLarge
from sfu.limited_log import LimitedLog
from sfu.limits import Limits
from sfu.metrics import SfuMetrics


class DescriptionReader:
    """Of one session. Reading takes milliseconds of the process that carries the call, so it has a budget."""

    def __init__(
        self, limits: Limits, metrics: SfuMetrics, group_id: str, log: LimitedLog, *, now_ns: int
    ) -> None:
        self._limit_bytes = limits.signal_bytes
        self._budget = limits.signal_rate(now_ns)
        self._metrics = metrics
        self._group_id = group_id
        self._log = log

    def read(self, data: bytes, *, over_channel: bool, now_ns: int) -> tuple[str, str] | None:
        """`(type, sdp)`, or None for what cannot be used. `over_channel`: packed by zlib."""
        # The most that it can be; what it is less comes back. So nothing is inflated on credit.
        if not self._budget.take(now_ns, self._limit_bytes):
            self.refuse("signal_rate", "too many bytes: see limits.signal_bytes_per_second")
            return None
        read = calls_dc.unpack_sdp if over_channel else calls_dc.read_sdp_json
        try:
            kind, text = read(data, limit_bytes=self._limit_bytes)
        except DcError as error:
            self.refuse("signal_size" if isinstance(error, DcTooLarge) else "sdp", str(error))
            return None
        self._budget.give_back(self._limit_bytes - len(text))
        return kind, text

    def refuse(self, kind: str, reason: str) -> None:
        """Count it, and say so."""
        self._metrics.add("rtcd_rtc_refused_total", self._group_id, kind)
        self._log.warning("sdp.refused", reason=reason)
