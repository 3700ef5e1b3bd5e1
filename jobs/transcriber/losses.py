"""Where sound is missing from a transcript because it never arrived: by packets, and by connection.

Packets lost are marked in the captures' indexes. Times without any connection are kept in
`connection.json` beside them, for nobody knows then who said what.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobs import connection_gaps
from jobs.transcriber.capture import CapturedTrack

_TOGETHER_NS: Final = 1_000_000_000
"""Losses closer to each other than this are one mark: an hour has at most as many marks as seconds."""


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


def lost_connections(directory: Path) -> list[LostAudio]:
    """What `ConnectionGaps` left in a job's directory; nothing when it left nothing readable. Blocks."""
    return [
        LostAudio("", start, end, end - start) for start, end in connection_gaps.read(directory)
    ]
