"""What depacketizers make: a frame that has its place in the stream, but not yet in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""More is no picture of a call; a frame that claims more is dropped."""


@dataclass(slots=True)
class Assembled:
    """One frame of a track."""

    payload: bytes
    sequence: int
    """Unwrapped number of its first packet."""
    timestamp: int
    """Unwrapped."""
    keyframe: bool
    lost: int = 0
    """Packets lost before it."""
    samples: int = 0
    """Audio: its length at 48 kHz."""
    lost_samples: int = 0
    """Audio: to be concealed before it, at 48 kHz."""
    repairs_loss: bool = False
