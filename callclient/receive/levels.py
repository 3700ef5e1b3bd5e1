"""How loud a speaker is, and whether they speak: from levels, whoever measured them. Pure.

Two measure: publishers, who may write it into a header extension (RFC 6464), and whoever decodes the sound.
What was decoded counts: an extension that the original SFU passes on may mean something else
(calls-plugin.md trap 26).
"""

from __future__ import annotations

from typing import Final

SILENT_DBOV: Final = -127.0
"""The quietest that RFC 6464 knows."""
_ON_DBOV: Final = -45.0
"""Above every digit of ASCII taken for a level: a section's name under the same id is no speech."""
_OFF_DBOV: Final = -50.0
_ON_NS: Final = 60_000_000
"""Loud for this long before it counts: a click is no word."""
_OFF_NS: Final = 500_000_000
"""Quiet for this long before it is over: words have gaps."""


class SpeechLevel:
    """One voice; owned by one thread."""

    __slots__ = ("_end_ns", "_loud_ns", "_quiet_ns", "decoded", "level_dbov", "speaking")

    def __init__(self) -> None:
        self.level_dbov = SILENT_DBOV
        """Of the newest packet, 0 the loudest."""
        self.speaking = False
        self.decoded = False
        """Somebody measures the decoded sound: levels from header extensions are not heeded."""
        self._loud_ns = self._quiet_ns = self._end_ns = 0

    def told(self, level: int, time_ns: int, duration_ns: int) -> bool:
        """The publisher's own level, 0 loud to 127 silent; has `speaking` changed with it?"""
        if self.decoded:
            return False
        return self._hear(-float(level & 0x7F), time_ns, duration_ns)

    def measured(self, level_dbov: float, time_ns: int, duration_ns: int) -> bool:
        """The level of decoded sound; has `speaking` changed with it?"""
        self.decoded = True
        return self._hear(max(level_dbov, SILENT_DBOV), time_ns, duration_ns)

    def silence_until(self, now_ns: int) -> bool:
        """Nothing came until then (muted tracks send no packets); has `speaking` changed with it?"""
        if self.speaking and now_ns - self._end_ns >= _OFF_NS:
            return self._change(speaking=False)
        return False

    def _hear(self, level_dbov: float, time_ns: int, duration_ns: int) -> bool:
        self.level_dbov, self._end_ns = level_dbov, time_ns + duration_ns
        if level_dbov > _ON_DBOV:
            self._loud_ns, self._quiet_ns = self._loud_ns + duration_ns, 0
        elif level_dbov < _OFF_DBOV:
            self._loud_ns, self._quiet_ns = 0, self._quiet_ns + duration_ns
        goes_on = self.speaking and self._quiet_ns < _OFF_NS
        return self._change(speaking=self._loud_ns >= _ON_NS or goes_on)

    def _change(self, *, speaking: bool) -> bool:
        changed, self.speaking = speaking != self.speaking, speaking
        if changed and not speaking:
            self.level_dbov = SILENT_DBOV
            self._loud_ns = self._quiet_ns = 0
        return changed
