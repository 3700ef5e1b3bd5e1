"""Is the other side still there? The server never tells, and a dead TCP connection looks open (trap 13)."""

from __future__ import annotations

from typing import Final

PING_INTERVAL_S: Final = 2.0
SILENT_TICKS: Final = 2
"""So a dead connection is given up after 4 to 6 s of silence: the session lives for 10 s without one."""


class Liveness:
    """Counts pings without anything heard since. Pure.

    It counts ticks and not seconds, so that a host that stood still itself does not blame the server.
    """

    def __init__(self) -> None:
        self._silent = 0

    def heard(self) -> None:
        """Something came."""
        self._silent = 0

    def tick(self) -> bool:
        """Before each ping: may we still hope?"""
        self._silent += 1
        return self._silent <= SILENT_TICKS
