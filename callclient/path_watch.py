"""When is the way to the SFU dead? From what arrives and the time; no I/O.

The SFU answers a ping on the data channel every second, so something always arrives while the path works,
also when everybody is silent. ICE alone would ask every 5 s only.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

_MS: Final = 1_000_000
PROBE_AFTER_NS: Final = 1_200 * _MS
"""Without a packet: ask by ICE now. More than the interval of pings and their way."""
_PROBE_EVERY_NS: Final = 1_000 * _MS
RESTART_AFTER_NS: Final = 2_000 * _MS
"""Without a packet, and ICE's questions unanswered too."""
LOST_AFTER_NS: Final = 2_000 * _MS
"""Without a packet, whatever ICE thinks."""
_RESTART_EVERY_NS: Final = 4_000 * _MS
_RETRY_NS: Final = 500 * _MS


class Advice(Enum):
    NOTHING = auto()
    PROBE = auto()
    """Ask the other side by ICE."""
    RESTART = auto()
    """Look for another way with an ICE restart."""


class PathWatch:
    """Ask `look` several times a second from the first connection on."""

    def __init__(self, now_ns: int) -> None:
        self._began_ns = now_ns
        self._probed_ns = self._restarted_ns = now_ns - _RESTART_EVERY_NS
        self.lost_since_ns: int | None = None
        """When the last packet came, once none has come for too long; None while they come."""

    def look(self, now_ns: int, *, heard_ns: int, doubtful: bool, gone: bool = False) -> Advice:
        """`heard_ns`: when the last packet came; `doubtful`: ICE asked more than once without an answer;
        `gone`: there is no path at all, as our address or the flow was taken away."""
        heard_ns = max(heard_ns, self._began_ns)
        silent_ns = now_ns - heard_ns
        self.lost_since_ns = heard_ns if silent_ns >= LOST_AFTER_NS else None
        if (
            gone or (doubtful and silent_ns >= RESTART_AFTER_NS)
        ) and now_ns - self._restarted_ns >= _RESTART_EVERY_NS:
            self._restarted_ns = now_ns
            return Advice.RESTART
        if silent_ns >= PROBE_AFTER_NS and now_ns - self._probed_ns >= _PROBE_EVERY_NS:
            self._probed_ns = now_ns
            return Advice.PROBE
        return Advice.NOTHING

    def restart_failed(self, now_ns: int) -> None:
        """It could not be offered, or was not answered: try again soon."""
        self._restarted_ns = now_ns - _RESTART_EVERY_NS + _RETRY_NS
