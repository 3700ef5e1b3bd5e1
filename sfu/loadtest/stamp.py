"""What a packet of the load test carries in its last bytes, so that whoever gets it can judge its way.

At the end, because an SFU may rewrite everything in front: SSRC, payload type, sequence number, timestamp,
header extensions, VP8 picture id.
"""

from __future__ import annotations

import struct
from typing import Final

MAGIC: Final = b"LtSt"
STAMP: Final = struct.Struct("!4sIIQQ")
"""Magic, track, sequence from 0 on, send time and start of the track (monotonic clock of the host, ns)."""
STAMP_BYTES: Final = STAMP.size

VOICE: Final = 0
SCREEN: Final = 1
KINDS: Final = ("voice", "screen")


class Window:
    """The span of send times that is measured; sender and receiver judge a packet by the same stamp."""

    __slots__ = ("end_ns", "start_ns")

    def __init__(self) -> None:
        self.start_ns = self.end_ns = 1 << 62


def track_number(participant: int, kind: int) -> int:
    """One number for each track of a run; `kind` is VOICE or SCREEN."""
    return participant << 1 | kind


def participant_of(track: int) -> int:
    return track >> 1


def kind_of(track: int) -> int:
    return track & 1
