"""How large what a participant sends may be. Larger is refused, before room is made for it where its header
tells."""

from __future__ import annotations

from typing import Final

LONG_SIDE_PX: Final = 4096
SHORT_SIDE_PX: Final = 2304
FRAME_PIXELS: Final = LONG_SIDE_PX * SHORT_SIDE_PX
"""A frame of video: lying or standing."""
FRAME_BYTES: Final = 8 * 1024 * 1024
"""Of a compressed frame."""
BATCH_FRAMES: Final = 4
"""So many are decoded at once: a slow host shall not look as if it hung."""
PICTURE_BYTES: Final = 4 * 1024 * 1024
"""Of a user's picture, as a file."""
PICTURE_PIXELS: Final = 16_000_000
FACE_PX: Final = 320
"""Sides of what is kept of a user's picture, at most: the largest tile needs no more."""
SLOT_BYTES: Final = FRAME_PIXELS * 3 // 2
"""Room for one decoded frame, YUV 4:2:0."""
SLOTS: Final = 64
"""Decoded frames that are shown or about to be, at most. Only what was used of them takes memory."""
REGION_BYTES: Final = SLOTS * SLOT_BYTES
PRIVATE_BYTES: Final = 1024**3
"""Address space that the process may have besides: libraries, decoders, their reference frames."""


def frame_fits(width: int, height: int) -> bool:
    """Is a frame of that size, px, taken? One of a single row or column has no colours in 4:2:0."""
    short, long = sorted((width, height))
    return 2 <= short <= SHORT_SIDE_PX and long <= LONG_SIDE_PX
