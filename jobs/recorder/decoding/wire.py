"""What recorder and decoding process say to each other over a socket pair. Pictures go through shared memory.

One question at a time; each but `FORGET` is answered. Both sides are of one release.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import Final

DECODERS: Final = ("vp8", "libdav1d")
"""FFmpeg's names; on the wire their places here."""
QUESTION: Final = struct.Struct("<BBhII")
"""Ask, frames, slot (-1: none), track, bytes that follow."""
FRAME: Final = struct.Struct("<BI")
"""Before the frames' bytes, for each: decoder, length."""
ANSWER: Final = struct.Struct("<BBBBHH")
"""Verdict, frames taken, frames that were to be shown, which of the taken the picture is of; its width and
height, px. Without a picture both are 0."""
GREETING: Final = struct.Struct("<I")
"""Length of what follows: JSON, a list of what could not be confined."""


class Ask(IntEnum):
    """Kinds of questions."""

    FRAMES = 1
    """Decode these frames of the track; the newest picture goes to the slot."""
    PICTURE = 2
    """Make a small square, RGB, of a user's picture; it goes to the slot."""
    FORGET = 3
    """The track is over. No answer."""


class Verdict(IntEnum):
    """What became of the last frame taken, or of the picture."""

    GOOD = 0
    BROKEN = 1
    REFUSED = 2
    """Larger than is taken (`limits`)."""


def receive(end: socket.socket, size: int) -> bytearray:
    """Exactly `size` bytes.

    Raises:
        EOFError: the other side has gone.
        TimeoutError: `end` has a time-out, and it is over.
    """
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = end.recv_into(view[got:])
        if count == 0:
            raise EOFError
        got += count
    return data
