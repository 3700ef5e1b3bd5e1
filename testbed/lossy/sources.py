"""What the publishers send: every packet and every picture can be told from all others by its bytes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Final

import av
import numpy as np

from callclient.publish import LocalTrack
from foundation.clock import SystemClock
from rtc.vp8 import packetize
from testbed.bots.pacing import Grid, sleep_until, ticks
from testbed.bots.picture import FRAMES_PER_S
from testbed.bots.screen import ScreenEncoder
from testbed.bots.voice import BEEP_AMPLITUDE, BEEP_HZ, BEEP_S, TICK_NS, TICKS_PER_S
from testbed.speech.opus_file import PACKET_SAMPLES, RATE_HZ

_FRAME_NS: Final = 1_000_000_000 // FRAMES_PER_S
_LOOK_AHEAD_SAMPLES: Final = 312
LOOP_TICKS: Final = 40 * TICKS_PER_S
"""After this long the same packets come again."""


@cache
def voice_packets(seed: int) -> tuple[bytes, ...]:
    """Forty seconds: a beep on each whole one over quiet noise, with in-band FEC as browsers send it."""
    count = LOOP_TICKS * PACKET_SAMPLES
    times_s = np.arange(count) / RATE_HZ
    sound = np.random.default_rng(seed).normal(0, 0.004, count)
    ramp = np.clip(np.minimum(times_s % 1, BEEP_S - times_s % 1) / 0.002, 0, 1)
    sound += BEEP_AMPLITUDE * np.sin(2 * np.pi * BEEP_HZ * times_s) * ramp
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = RATE_HZ, "mono", "flt"
    encoder.bit_rate = 32_000
    encoder.options = {"application": "voip", "fec": "1", "packet_loss": "15"}
    sound = np.roll(sound, -_LOOK_AHEAD_SAMPLES).astype(np.float32)
    packets: list[bytes] = []
    for start in range(0, count, PACKET_SAMPLES):
        block = sound[None, start : start + PACKET_SAMPLES]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return tuple(packets)


@dataclass(frozen=True, slots=True)
class VoiceSource:
    """Talks for `talk_s`, is muted for `mute_s`, and so on; the RTP clock stands still meanwhile."""

    seed: int
    talk_s: float = 0.0
    """0: talks always."""
    mute_s: float = 0.0

    def talks(self, tick: int) -> bool:
        if not self.talk_s:
            return True
        period = round((self.talk_s + self.mute_s) * TICKS_PER_S)
        return tick % period < round(self.talk_s * TICKS_PER_S)

    async def send(self, track: LocalTrack, zero_ns: int) -> None:
        """Until cancelled, from the next whole tick after now."""
        packets, sent, pause = voice_packets(self.seed), 0, True
        async for tick in ticks(SystemClock(), Grid(zero_ns, TICK_NS)):
            if not self.talks(tick):
                pause = True
                continue
            track.send(
                packets[tick % LOOP_TICKS], rtp_timestamp=sent * PACKET_SAMPLES, marker=pause
            )
            sent, pause = sent + 1, False


@dataclass(slots=True)
class ScreenSource:
    """The bots' picture; remembers which frame is which."""

    frames: dict[bytes, int] = field(default_factory=dict)
    """Index by bytes; frame n was taken n tenths of a second after zero."""

    async def send(self, track: LocalTrack, zero_ns: int) -> None:
        """Until cancelled."""
        clock, grid, loop = SystemClock(), Grid(zero_ns, _FRAME_NS), asyncio.get_running_loop()
        worker = ThreadPoolExecutor(1, thread_name_prefix="screen")
        key_frame, picture_id = True, 0
        try:
            encoder = await loop.run_in_executor(worker, ScreenEncoder)
            index = grid.next_index(clock.monotonic_ns())
            while True:
                await sleep_until(clock, grid.at_ns(index))
                key_frame |= track.key_frame_wanted
                encode = partial(encoder.encode, index, key_frame=key_frame)
                frame = await loop.run_in_executor(worker, encode)
                if frame:
                    self.frames[frame] = index
                    payloads = packetize(frame, picture_id=picture_id)
                    for number, payload in enumerate(payloads, 1):
                        track.send(
                            payload,
                            rtp_timestamp=index * (90_000 // FRAMES_PER_S),
                            marker=number == len(payloads),
                        )
                    picture_id = (picture_id + 1) & 0x7FFF
                    key_frame = False
                index = max(index + 1, grid.next_index(clock.monotonic_ns() - _FRAME_NS))
        finally:
            worker.shutdown(wait=False, cancel_futures=True)
