"""What was heard and seen, held against what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from callclient.receive.tracks import EncodedFrame
from jobs.recorder.voice import RATE_HZ, VoiceTrack
from testbed.analysis.marks import find_beeps
from testbed.analysis.media import Sound
from testbed.bots.picture import FRAMES_PER_S
from testbed.bots.voice import BEEP_S, TICK_NS, TICKS_PER_S
from testbed.lossy.listener import Listener, SeenPicture
from testbed.lossy.sources import LOOP_TICKS, VoiceSource, voice_packets

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
MAX_SHIFT_MS: Final = 20.0
MAX_MADE_UP_SHARE: Final = 0.01
"""Of the talking time, beyond what was lost."""
MAX_BLIND_S: Final = 1.5
MAX_BEEP_OFFSET_MS: Final = 25.0
"""The shift, and what finding a beep is good to."""
_SPURT_TICKS: Final = TICKS_PER_S
_BEEP_TICKS: Final = round(BEEP_S * TICKS_PER_S) + 1


@dataclass(slots=True)
class VoiceVerdict:
    """One voice at one listener."""

    talked_s: float
    lost_s: float
    """Sound that the network kept."""
    concealed_s: float
    """Sound that was made up."""
    unused: int
    """Packets of the announced track that arrived and were not handed on: too late."""
    worst_start_ms: float
    """Farthest from where it was said, in the first second of a talk spurt."""
    worst_later_ms: float
    beeps: int
    """Of which every packet arrived."""
    beeps_found: int
    worst_beep_ms: float

    def complaints(
        self, *, placed: bool = True, in_time: bool = True, still_s: float = 0.0
    ) -> list[str]:
        """What is not as it should be. `placed`: it must lie where it was said. `in_time`: the network is
        never slower than the listener is patient, so that whatever arrives must be used. `still_s`: for so
        long everything stood still."""
        allowed_s = self.lost_s + MAX_MADE_UP_SHARE * self.talked_s
        rules = {
            f"{self.concealed_s:.2f} s made up, {self.lost_s:.2f} s lost": (
                in_time and self.concealed_s > allowed_s
            ),
            f"{self.unused} packets that came were not used": in_time and self.unused > 0,
            f"a voice {self.worst_ms:.0f} ms off": (
                placed and self.worst_ms > MAX_SHIFT_MS + 1000 * still_s
            ),
            f"{self.beeps_found} of {self.beeps} beeps": self.beeps_found < self.beeps,
            f"a beep {self.worst_beep_ms:.0f} ms off": (
                placed and self.worst_beep_ms > MAX_BEEP_OFFSET_MS + 1000 * still_s
            ),
        }
        return [text for text, is_so in rules.items() if is_so]

    @property
    def worst_ms(self) -> float:
        return max(self.worst_start_ms, self.worst_later_ms)


@dataclass(slots=True)
class ScreenVerdict:
    """The screen at one listener."""

    sent: int
    right: int
    """Pictures that show what was drawn."""
    wrong: int
    blind_s: list[float] = field(default_factory=list)
    """For each burst: from its end to the next right picture."""
    longest_gap_s: float = 0.0
    """Between two right pictures, wherever."""
    repaired: int = 0
    lost: int = 0
    key_frames_asked: int = 0

    def complaints(self, *, still_s: float = 0.0) -> list[str]:
        """What is not as it should be; `still_s` as for a voice."""
        worst_s = max(self.blind_s, default=0.0)
        rules = {
            f"{self.wrong} damaged pictures": self.wrong > 0,
            f"blind for {worst_s:.1f} s after a burst": worst_s > MAX_BLIND_S + still_s,
            "no picture at all": self.right == 0,
        }
        return [text for text, is_so in rules.items() if is_so]


def judge_voice(
    listener: Listener, session_id: str, source: VoiceSource, zero_ns: int
) -> VoiceVerdict | None:
    """None: nothing was heard."""
    heard = listener.voices.get(session_id)
    if heard is None or not heard.frames:
        return None
    known = {packet: index for index, packet in enumerate(voice_packets(source.seed))}
    placed = [
        (_tick(known[f.payload], f.time_ns - zero_ns), f)
        for f in heard.frames
        if f.payload in known
    ]
    start, later = [0.0], [0.0]
    for tick, frame in placed:
        error_ms = abs(frame.time_ns - zero_ns - tick * TICK_NS) / _MS
        (start if _in_first_second(source, tick, placed[0][0]) else later).append(error_ms)
    first, last = placed[0][0], placed[-1][0]
    arrived = {tick for tick, _ in placed}
    whole = [
        tick // TICKS_PER_S
        for tick in range(first + TICKS_PER_S - first % TICKS_PER_S, last - _BEEP_TICKS, 50)
        if all(t in arrived for t in range(tick - 1, tick + _BEEP_TICKS))
    ]
    beeps = _beeps(heard.frames, zero_ns, (last + 100) / TICKS_PER_S)
    offsets = [min((b - second for b in beeps), key=abs, default=9.0) for second in whole]
    near = [1000 * offset for offset in offsets if abs(offset) < 0.4]
    statistics = heard.track.statistics
    talked = sum(source.talks(tick) for tick in range(first, last + 1))
    return VoiceVerdict(
        talked_s=talked / TICKS_PER_S,
        lost_s=listener.lost_packets(heard.track) / TICKS_PER_S,
        concealed_s=statistics.concealed_ns / _NS,
        unused=statistics.packets_received - statistics.packets_duplicate - len(heard.frames),
        worst_start_ms=max(start),
        worst_later_ms=max(later),
        beeps=len(whole),
        beeps_found=len(near),
        worst_beep_ms=max(map(abs, near), default=0.0),
    )


def judge_screen(
    pictures: Sequence[SeenPicture], bursts: Sequence[tuple[int, int]], zero_ns: int, sent: int
) -> ScreenVerdict:
    """`bursts`: (begin, end), ns."""
    right = [picture for picture in pictures if picture.right]
    verdict = ScreenVerdict(sent, len(right), len(pictures) - len(right))
    for begin_ns, end_ns in bursts:
        begun = next((p for p in right if p.delivered_ns < begin_ns), None)
        if begun is None:  # not seen before: there is no "again"
            continue
        after = [
            p.delivered_ns
            for p in right
            if p.delivered_ns >= end_ns and zero_ns + p.index * _NS // FRAMES_PER_S >= begin_ns
        ]
        verdict.blind_s.append((min(after) - end_ns) / _NS if after else float("inf"))
    moments = [picture.delivered_ns for picture in right]
    gaps = [b - a for a, b in pairwise(moments)]
    verdict.longest_gap_s = max(gaps, default=0) / _NS
    return verdict


def _tick(index: int, since_zero_ns: int) -> int:
    """The packets come again after a while: which time was it?"""
    turn = round((since_zero_ns / TICK_NS - index) / LOOP_TICKS)
    return index + turn * LOOP_TICKS


def _in_first_second(source: VoiceSource, tick: int, first_tick: int) -> bool:
    before = range(tick - _SPURT_TICKS, tick + 1)
    return tick < first_tick + _SPURT_TICKS or not all(source.talks(t) for t in before)


def _beeps(frames: Sequence[EncodedFrame], zero_ns: int, length_s: float) -> list[float]:
    """As the recorder would put it: decoded, filled, placed."""
    line = np.zeros(round((length_s + 1) * RATE_HZ), np.float32)
    track = VoiceTrack()
    for frame in frames:
        block = track.push(frame, zero_ns=zero_ns)
        if block is None or block.position < 0:
            continue
        room = line[block.position : block.position + len(block.samples)]
        room += block.samples[: len(room)]
    return find_beeps(Sound(line, RATE_HZ, 0.0))
