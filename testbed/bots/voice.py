"""A bot's voice: which Opus packet is due at which tick. Pure; sending and sleeping are the bot's.

One tick is 20 ms; every 50th tick is a whole second of the bot's clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from testbed.speech.clips import SILENT_LEVEL, Clip, packet_levels
from testbed.speech.opus_file import PACKET_SAMPLES, RATE_HZ, decode_opus, encode_opus

TICK_NS: Final = 20_000_000
TICKS_PER_S: Final = 50

BEEP_HZ: Final = 1000
BEEP_S: Final = 0.1
BEEP_AMPLITUDE: Final = 0.25
_BEEP_RAMP_S: Final = 0.002
_BEEP_LEAD_TICKS: Final = 1
"""The sound starts one packet into the beep's packets: an encoder needs a run-up."""


@dataclass(frozen=True, slots=True)
class VoicePacket:
    """What to send at one tick."""

    payload: bytes
    level: int
    """−dBov (RFC 6464)."""
    rtp_timestamp: int
    marker: bool
    """First packet after silence on the wire."""
    starts: Clip | None = None
    """The clip whose first packet this is."""
    beep_tick: int | None = None
    """The tick at which the beep begins whose first packet this is."""


class VoiceSource:
    """Decides what a voice track carries. Starts muted."""

    def __init__(self, *, rtp_offset: int, rtp_stands_while_muted: bool) -> None:
        self.muted = True
        self.beeping = False
        """Beep on every whole second, unless talking."""
        self._rtp_offset = rtp_offset
        self._rtp_stands = rtp_stands_while_muted
        self._sent = 0
        self._was_silent = True
        self._clips: deque[Clip] = deque()
        self._playing: deque[tuple[bytes, int]] = deque()

    def say(self, clip: Clip) -> None:
        """Play `clip` from the next tick on, or after what is playing."""
        self._clips.append(clip)

    def packet(self, tick: int) -> VoicePacket | None:
        """What is due at `tick`; None while muted. To be called for every tick in order."""
        if self.muted:
            self._was_silent = True
            return None
        starts, beep_tick = self._start_next(tick)
        payload, level = (
            self._playing.popleft() if self._playing else (silence_packet(), SILENT_LEVEL)
        )
        position = self._sent if self._rtp_stands else tick
        packet = VoicePacket(
            payload=payload,
            level=level,
            rtp_timestamp=(self._rtp_offset + position * PACKET_SAMPLES) & 0xFFFFFFFF,
            marker=self._was_silent,
            starts=starts,
            beep_tick=beep_tick,
        )
        self._sent += 1
        self._was_silent = False
        return packet

    def _start_next(self, tick: int) -> tuple[Clip | None, int | None]:
        if self._playing:
            return None, None
        if self._clips:
            clip = self._clips.popleft()
            self._playing.extend(zip(clip.packets, clip.levels, strict=True))
            return clip, None
        if self.beeping and (tick + _BEEP_LEAD_TICKS) % TICKS_PER_S == 0:
            self._playing.extend(beep_packets())
            return None, tick + _BEEP_LEAD_TICKS
        return None, None


@cache
def silence_packet() -> bytes:
    """A packet of settled digital silence."""
    return encode_opus(np.zeros(RATE_HZ // 2, np.float32))[-1]


@cache
def beep_packets() -> tuple[tuple[bytes, int], ...]:
    """One lead packet, 100 ms of 1 kHz, and its fading, with their levels."""
    times_s = np.arange(round(BEEP_S * RATE_HZ)) / RATE_HZ
    ramp = np.clip(np.minimum(times_s, BEEP_S - times_s) / _BEEP_RAMP_S, 0, 1)
    tone = BEEP_AMPLITUDE * np.sin(2 * np.pi * BEEP_HZ * times_s) * ramp
    lead = np.zeros(_BEEP_LEAD_TICKS * PACKET_SAMPLES)
    sound = np.concatenate([lead, tone, np.zeros(2 * PACKET_SAMPLES)]).astype(np.float32)
    packets = encode_opus(sound)
    return tuple(zip(packets, packet_levels(decode_opus(packets)), strict=True))
