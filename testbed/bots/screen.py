"""A shared screen: draws and encodes in one worker thread, sends on the loop, stays on the clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from typing import Final

import av
from av.video.frame import PictureType

from callclient.publish import LocalTrack
from foundation.clock import Clock
from rtc.vp8 import packetize
from testbed.bots.pacing import Grid, sleep_until
from testbed.bots.picture import FRAMES_PER_S, Picture, Planes, flashes

_FRAME_NS: Final = 1_000_000_000 // FRAMES_PER_S
_CLOCK_RATE_HZ: Final = 90_000
_BIT_RATE: Final = 1_500_000


class ScreenEncoder:
    """Generated picture to VP8 frames. Blocking; owned by one worker thread."""

    def __init__(self, draw: Callable[[int], Planes] | None = None) -> None:
        """`draw(index)` makes frame after frame, all of one size; the shared screen's picture otherwise."""
        self._draw = draw or Picture().frame
        context = av.CodecContext.create("libvpx", "w")
        assert isinstance(context, av.VideoCodecContext)
        rows, context.width = self._draw(0).shape
        context.height = rows * 2 // 3
        context.pix_fmt = "yuv420p"
        context.framerate = Fraction(FRAMES_PER_S)
        context.time_base = Fraction(1, FRAMES_PER_S)
        context.bit_rate = _BIT_RATE
        context.gop_size = 100_000  # key frames only when somebody asks
        context.thread_count = 1
        context.options = {
            "deadline": "realtime",
            "cpu-used": "12",
            "lag-in-frames": "0",
            "error-resilient": "1",
            "screen-content-mode": "1",
        }
        self._context = context

    def encode(self, index: int, *, key_frame: bool) -> bytes:
        """Frame `index`, which must grow from call to call."""
        frame = av.VideoFrame.from_ndarray(self._draw(index), format="yuv420p")
        frame.pts = index
        frame.time_base = Fraction(1, FRAMES_PER_S)
        frame.pict_type = PictureType.I if key_frame else PictureType.NONE
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


async def share_screen(
    track: LocalTrack,
    *,
    clock: Clock,
    zero_ns: int,
    on_flash: Callable[[int], None],
    draw: Callable[[int], Planes] | None = None,
) -> None:
    """Send the picture over `track` until cancelled.

    Frame times are whole tenths of a second after `zero_ns`, and so are the RTP timestamps, however long
    encoding takes; frames that encoding has missed are left out. `on_flash(at_ns)` is called for the first
    frame of each flash when it was sent.
    """
    grid = Grid(zero_ns, _FRAME_NS)
    loop = asyncio.get_running_loop()
    rtp_offset = random.getrandbits(32)
    picture_id = random.getrandbits(15)
    key_frame = True
    flashing = False
    worker = ThreadPoolExecutor(1, thread_name_prefix="screen")
    try:
        encoder = await loop.run_in_executor(worker, ScreenEncoder, draw)
        index = grid.next_index(clock.monotonic_ns())
        while True:
            await sleep_until(clock, grid.at_ns(index))
            key_frame |= track.key_frame_wanted
            encode = partial(encoder.encode, index, key_frame=key_frame)
            frame = await loop.run_in_executor(worker, encode)
            if frame:
                ticks = index * (_CLOCK_RATE_HZ // FRAMES_PER_S)
                _send(track, frame, (rtp_offset + ticks) & 0xFFFFFFFF, picture_id)
                picture_id = (picture_id + 1) & 0x7FFF
                key_frame = False
                if flashes(index) and not flashing:
                    on_flash(grid.at_ns(index))
                flashing = flashes(index)
            index = max(index + 1, grid.next_index(clock.monotonic_ns() - _FRAME_NS))
    finally:
        worker.shutdown(wait=False, cancel_futures=True)


def _send(track: LocalTrack, frame: bytes, rtp_timestamp: int, picture_id: int) -> None:
    payloads = packetize(frame, picture_id=picture_id)
    for number, payload in enumerate(payloads, 1):
        track.send(payload, rtp_timestamp=rtp_timestamp, marker=number == len(payloads))
