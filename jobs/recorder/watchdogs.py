"""Notices what nobody reports: a call without people, and one without media. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

_NS: Final = 1_000_000_000
ALONE_NS: Final = 300 * _NS
"""The plugin stops a recording when the call empties; if it could not tell us, we go by ourselves."""
NO_MEDIA_NS: Final = 20 * _NS
"""Who is unmuted sends all the time, in silence too: many times the longest pause of any sender."""

Kind = Literal["alone", "no_media", "media_again"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be told."""

    kind: Kind
    """`alone`: the recording should end. `no_media` and `media_again`: for the log and the report."""
    since_ns: int


class Watchdogs:
    """For one recording; `look` every second or so."""

    def __init__(self, *, now_ns: int) -> None:
        self._looked_ns = now_ns
        self._packets = 0
        self._alone_since_ns: int | None = None
        self._told_alone = False
        self._wanting_since_ns: int | None = None
        """Somebody should be heard or seen, and nothing has come since."""
        self._missing = False
        self.no_media_ns = 0
        """Time in which media was missing, up to the last look."""

    def look(self, now_ns: int, *, participants: int, sending: int, packets: int) -> list[Finding]:
        """`participants` are there, `sending` of them unmuted or sharing; `packets` came so far."""
        came, self._packets = packets != self._packets, packets
        elapsed_ns, self._looked_ns = now_ns - self._looked_ns, now_ns
        found = self._look_for_people(now_ns, alone=participants == 0 and not came)
        if sending == 0 or came:
            if self._missing:
                self._missing = False
                found.append(Finding("media_again", now_ns))
            self._wanting_since_ns = None
            return found
        if self._wanting_since_ns is None:
            self._wanting_since_ns = now_ns
        if self._missing:
            self.no_media_ns += elapsed_ns
        elif now_ns - self._wanting_since_ns >= NO_MEDIA_NS:
            self._missing = True
            self.no_media_ns += now_ns - self._wanting_since_ns
            found.append(Finding("no_media", self._wanting_since_ns))
        return found

    def _look_for_people(self, now_ns: int, *, alone: bool) -> list[Finding]:
        if not alone:
            self._alone_since_ns = None
            return []
        if self._alone_since_ns is None:
            self._alone_since_ns = now_ns
        if self._told_alone or now_ns - self._alone_since_ns < ALONE_NS:
            return []
        self._told_alone = True
        return [Finding("alone", self._alone_since_ns)]
