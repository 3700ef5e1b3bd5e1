"""A publisher's wall clock told in ours: one shift for all its tracks.

Sender reports carry the publisher's NTP time. Passed on as they are, sound and picture of one publisher
fit together, but two publishers with wrong clocks do not. So every report is shifted by one number for
each publisher: how far its clock is behind ours, by the report that was quickest on its way.
"""

from __future__ import annotations

_WINDOW_NS = 60_000_000_000
_MASK = (1 << 64) - 1


class PublisherClock:
    """Of one session. NTP times are 64-bit fixed-point seconds (RFC 3550 section 4)."""

    __slots__ = ("_older", "_since_ns", "_younger")

    def __init__(self) -> None:
        self._older: int | None = None
        self._younger: int | None = None
        self._since_ns = 0

    def note(self, publisher_ntp: int, our_ntp: int, now_ns: int) -> None:
        """A report came: its time, and ours at its arrival."""
        shift = our_ntp - publisher_ntp
        if self._younger is None or now_ns - self._since_ns > _WINDOW_NS:
            # Two windows, so that a clock that drifts is followed within two minutes.
            self._older, self._younger, self._since_ns = self._younger, shift, now_ns
        elif shift < self._younger:
            self._younger = shift

    def to_ours(self, publisher_ntp: int) -> int:
        """The same moment on our clock; unchanged before the first report."""
        known = [shift for shift in (self._older, self._younger) if shift is not None]
        return (publisher_ntp + min(known, default=0)) & _MASK
