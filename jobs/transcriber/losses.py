"""Where sound is missing from a transcript because it never arrived: by packets, and by connection.

Packets lost are marked in the captures' indexes. Times without any connection are kept in
`connection.json` beside them, for nobody knows then who said what.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs.job_directory import write_private
from jobs.transcriber.capture import CapturedTrack

FILE_NAME: Final = "connection.json"
_TOGETHER_NS: Final = 1_000_000_000
"""Losses closer to each other than this are one mark: an hour has at most as many marks as seconds."""
_MOST_GAPS: Final = 1000


@dataclass(frozen=True, slots=True)
class LostAudio:
    """Between these call times sound is missing."""

    session_id: str
    """Whose; empty: everybody's, there was no connection."""
    start_ns: int
    end_ns: int
    lost_ns: int
    """How much of that time."""


def lost_packets(captures: Iterable[CapturedTrack]) -> list[LostAudio]:
    """What was lost of each speaker, neighbouring losses together, in the order of the call."""
    marks: list[LostAudio] = []
    for capture in captures:
        session_id = capture.identity.session_id
        last: LostAudio | None = None
        for start_ns, end_ns in capture.losses():
            lost_ns = end_ns - start_ns
            if last is not None and start_ns - last.end_ns < _TOGETHER_NS:
                last = LostAudio(session_id, last.start_ns, end_ns, last.lost_ns + lost_ns)
                marks[-1] = last
            else:
                last = LostAudio(session_id, start_ns, end_ns, lost_ns)
                marks.append(last)
    return sorted(marks, key=lambda mark: (mark.start_ns, mark.session_id))


class ConnectionGaps:
    """When there was no connection, in call time, as far as it is known. Lives on the event loop."""

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self._gaps: list[tuple[int, int]] = []

    def lost(self, since_ns: int) -> None:
        """No packet came after that call time."""
        self._since_ns = since_ns

    def restored(self, at_ns: int) -> bool:
        """The first one came. Whether that ended a gap: `save` it."""
        since_ns, self._since_ns = self._since_ns, None
        if since_ns is None or at_ns <= max(0, since_ns) or len(self._gaps) >= _MOST_GAPS:
            return False
        self._gaps.append((max(0, since_ns), at_ns))
        return True

    def save(self, directory: Path) -> None:
        """Blocks. Raises OSError."""
        write_private(directory / FILE_NAME, json.dumps(self._gaps), may_spend_reserve=False)


def lost_connections(directory: Path) -> list[LostAudio]:
    """What `ConnectionGaps.save` left in a job's directory; nothing when it left nothing readable. Blocks."""
    try:
        gaps = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
        return [LostAudio("", int(start), int(end), int(end) - int(start)) for start, end in gaps]
    except (OSError, ValueError, TypeError):
        return []
