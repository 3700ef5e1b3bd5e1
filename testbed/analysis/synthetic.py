"""A recording made from a plan alone: no call, no network, every answer known, and damage on request.

What the analysis is tested with. Sound comes from the same voice sources as the bots'; pictures are drawn
plainly after calls-plugin.md 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from testbed.analysis.call import Call
from testbed.analysis.media import rgb
from testbed.analysis.pictures import Box, TileSize, contained, tile_boxes
from testbed.bots.picture import FRAMES_PER_S, Picture
from testbed.bots.voice import TICK_NS, TICKS_PER_S, VoiceSource
from testbed.bots.world import User
from testbed.scenario import Event, Join, Leave, Mute, Plan, Say, ShareScreen, StopScreen, Unmute
from testbed.speech.clips import Clip
from testbed.speech.opus_file import PACKET_SAMPLES, RATE_HZ, Samples, decode_opus
from testbed.truth import Mark, MarkKind, Truth, Utterance

ZERO_NS: Final = 1_000_000_000_000
"""Time 0 of the plan and of the recording."""
_RING_ON_S: Final = 0.15
_RING_OFF_S: Final = 1.1
_RING_LEAST_S: Final = 2.1
_SCREEN_DELAY_S: Final = 0.4
_MARKS: Final[dict[type[Event], MarkKind]] = {
    Join: "join",
    Leave: "leave",
    Mute: "mute",
    Unmute: "unmute",
    ShareScreen: "screen_start",
    StopScreen: "screen_stop",
}


@dataclass(frozen=True, slots=True)
class Damage:
    """What a bad recorder would do."""

    late_s: Mapping[str, float] = field(default_factory=dict)
    """Bots whose voice comes too late."""
    stretch: Mapping[str, float] = field(default_factory=dict)
    """Bots whose voice runs at another speed: 0.01 is 1 % slower."""
    lost_second_s: float | None = None
    """This second of the sound is missing; what follows comes earlier."""
    picture_late_s: float = 0.0
    no_ring: frozenset[str] = frozenset()
    ring_always: frozenset[str] = frozenset()
    no_name: frozenset[str] = frozenset()
    screen_stays: bool = False
    screen_cropped: bool = False


@dataclass(frozen=True, slots=True)
class Simulated:
    """A plan carried out."""

    call: Call
    voices: Mapping[str, Samples]
    """48 kHz from the recording's start, per bot."""


def simulate(plan: Plan, clips: Mapping[str, Sequence[Clip]]) -> Simulated:
    """Carry out `plan` in no time."""
    users = {bot: synthetic_user(bot) for bot in plan.bots}
    marks: list[Mark] = []
    utterances: list[Utterance] = []
    voices: dict[str, Samples] = {}
    ticks = round(plan.end_s * TICKS_PER_S)
    for bot in plan.bots:
        own = [event for event in plan.events if event.bot == bot]
        marks += [Mark(_MARKS[type(e)], bot, _ns(e.at_s)) for e in own if not isinstance(e, Say)]
        voices[bot] = _speak(bot, own, clips[bot], ticks, marks, utterances)
    marks.sort(key=lambda mark: mark.at_ns)
    utterances.sort(key=lambda utterance: utterance.start_ns)
    sessions = {bot * 5: bot for bot in plan.bots}
    truth = Truth(0, tuple(utterances), tuple(marks), sessions)
    return Simulated(Call(truth, users, ZERO_NS, _ns(plan.end_s)), voices)


def swap_speakers(call: Call, one: str, other: str) -> Call:
    """The same call with two people taken for each other in what they said."""
    swapped = {one: other, other: one}
    utterances = tuple(
        replace(utterance, bot=swapped.get(utterance.bot, utterance.bot))
        for utterance in call.truth.utterances
    )
    return replace(call, truth=replace(call.truth, utterances=utterances))


def synthetic_user(bot: str) -> User:
    """Alice Aarnsby, Bob Barnsby, …"""
    first = bot.capitalize()
    return User(bot, f"{bot}id", "", bot, first, f"{first[0]}arnsby")


def transcript_of(call: Call) -> str:
    """A faultless WebVTT file of the call."""
    cues = [
        f"{_time(s.start_s)} --> {_time(s.end_s)}\n<v {s.speaker}>({s.speaker}) {s.utterance.text}"
        for s in call.spoken()
    ]
    return "\n\n".join(["WEBVTT", *cues]) + "\n"


def write_recording(
    path: Path,
    simulated: Simulated,
    damage: Damage = Damage(),
    *,
    size: tuple[int, int] = (1280, 720),
    frame_rate: int = 10,
) -> None:
    """An MP4 file as the recorder should make it, with `damage`."""
    call = simulated.call
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video: Any = container.add_stream("libx264", rate=frame_rate)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.options = {"preset": "ultrafast", "bf": "0"}
        audio: Any = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        audio.bit_rate = 64_000
        painter = _Painter(call, damage, size)
        last = round(call.duration_s * frame_rate) - 1
        shown = None
        for index in range(last + 1):
            picture = painter.paint(index / frame_rate - damage.picture_late_s)
            if picture is shown and index != last:
                continue  # as the recorder does: a picture stays until another one comes
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, frame_rate)
            container.mux(video.encode(frame))
            shown = picture
        container.mux(video.encode(None))
        sound = mixed(simulated, damage)
        for position in range(0, len(sound), 1024):
            block = np.ascontiguousarray(sound[None, position : position + 1024])
            samples = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            samples.sample_rate, samples.pts = RATE_HZ, position
            container.mux(audio.encode(samples))
        container.mux(audio.encode(None))


def mixed(simulated: Simulated, damage: Damage = Damage()) -> Samples:
    """All voices at 48 kHz, with `damage`."""
    length = max(len(voice) for voice in simulated.voices.values())
    total = np.zeros(length, np.float32)
    for bot, voice in simulated.voices.items():
        shift = round(damage.late_s.get(bot, 0.0) * RATE_HZ)
        positions = (np.arange(length) - shift) / (1 + damage.stretch.get(bot, 0.0))
        total += np.interp(positions, np.arange(len(voice)), voice, left=0, right=0).astype(
            np.float32
        )
    if damage.lost_second_s is not None:
        first = round(damage.lost_second_s * RATE_HZ)
        total = np.concatenate(
            [total[:first], total[first + RATE_HZ :], np.zeros(RATE_HZ, np.float32)]
        )
    return total


class _Painter:
    def __init__(self, call: Call, damage: Damage, size: tuple[int, int]) -> None:
        self._call = call
        self._damage = damage
        self._size = size
        self._picture = Picture()

    def paint(self, at_s: float) -> Image.Image:
        for _, start_s, stop_s in self._call.shares_s():
            gone_s = self._call.duration_s if self._damage.screen_stays else stop_s
            if start_s + _SCREEN_DELAY_S <= at_s < gone_s:
                return self._paint_screen(min(at_s, stop_s))
        at_ns = self._call.zero_ns + round(at_s * 1e9)
        truth = self._call.truth
        present = truth.present(at_ns)
        order = sorted(
            present, key=lambda b: (truth.muted(b, at_ns), self._call.users[b].tile_name)
        )
        names = tuple(
            "" if b in self._damage.no_name else self._call.users[b].tile_name for b in order
        )
        rings = tuple(self._has_ring(b, at_s, at_ns) for b in order)
        return _paint_tiles(self._size, names, rings)

    def _has_ring(self, bot: str, at_s: float, at_ns: int) -> bool:
        if bot in self._damage.ring_always:
            return True
        if bot in self._damage.no_ring or self._call.truth.muted(bot, at_ns):
            return False
        return any(
            start_s + _RING_ON_S
            <= at_s
            < max(end_s + _RING_OFF_S, start_s + _RING_ON_S + _RING_LEAST_S)
            for start_s, end_s in self._call.sounds_s(bot)
        )

    def _paint_screen(self, at_s: float) -> Image.Image:
        planes = self._picture.frame(int(at_s * FRAMES_PER_S + 1e-6))
        source = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        canvas = Image.new("RGB", self._size, (30, 30, 30))
        # Cropped: as wide as can be, and then too high.
        area = (0, -16, *self._size) if self._damage.screen_cropped else contained(*self._size)
        left, top, right, bottom = (round(v) for v in area)
        height = self._size[1] if self._damage.screen_cropped else bottom - top
        scaled = source.reformat(width=right - left, height=height, format="rgb24")
        canvas.paste(Image.fromarray(rgb(scaled)), (left, top))
        return canvas


@lru_cache(maxsize=64)
def _paint_tiles(
    size: tuple[int, int], names: tuple[str, ...], rings: tuple[bool, ...]
) -> Image.Image:
    canvas = Image.new("RGB", size, (30, 30, 30))
    draw = ImageDraw.Draw(canvas, "RGBA")
    draw.rounded_rectangle((12, 0, size[0] - 12, size[1] - 32), 8, fill=(48, 48, 48))
    if not names:
        return canvas
    tile, boxes = tile_boxes(len(names), width_px=size[0], height_px=size[1])
    for name, ring, box in zip(names, rings, boxes, strict=True):
        _paint_tile(draw, tile, box, name, ring=ring)
    return canvas


def _paint_tile(
    draw: ImageDraw.ImageDraw, tile: TileSize, box: Box, name: str, *, ring: bool
) -> None:
    centre_x, radius = (box[0] + box[2]) / 2, tile.avatar_px / 2
    centre_y = box[1] + tile.padding_px + radius
    if ring:
        outer = radius + 3
        draw.ellipse(
            (centre_x - outer, centre_y - outer, centre_x + outer, centre_y + outer),
            fill=(55, 124, 97),
        )
    draw.ellipse(
        (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius),
        fill=(90, 90, 160),
    )
    font = ImageFont.load_default(size=14)
    text_y = centre_y + radius + tile.gap_px
    draw.text((centre_x, text_y), name, fill=(255, 255, 255), font=font, anchor="ma")


def _speak(
    bot: str,
    events: Sequence[Event],
    clips: Sequence[Clip],
    ticks: int,
    marks: list[Mark],
    utterances: list[Utterance],
) -> Samples:
    source = VoiceSource(rtp_offset=0, rtp_stands_while_muted=False)
    waiting = list(events)
    packets: list[tuple[int, bytes]] = []
    for tick in range(ticks):
        while waiting and _ns(waiting[0].at_s) <= ZERO_NS + tick * TICK_NS:
            _apply(waiting.pop(0), source, clips)
        packet = source.packet(tick)
        if source.beeping and tick % TICKS_PER_S == 0:
            marks.append(Mark("flash", bot, ZERO_NS + tick * TICK_NS))
        if packet is None:
            continue
        packets.append((tick, packet.payload))
        if packet.starts is not None:
            clip, start_ns = packet.starts, ZERO_NS + tick * TICK_NS
            utterances.append(Utterance(bot, clip.name, clip.text, clip.words, start_ns))
        if packet.beep_tick is not None:
            marks.append(Mark("beep", bot, ZERO_NS + packet.beep_tick * TICK_NS))
    voice = np.zeros(ticks * PACKET_SAMPLES, np.float32)
    heard = decode_opus(payload for _, payload in packets)
    for number, (tick, _) in enumerate(packets):
        block = heard[number * PACKET_SAMPLES : (number + 1) * PACKET_SAMPLES]
        voice[tick * PACKET_SAMPLES : tick * PACKET_SAMPLES + len(block)] = block
    return voice


def _apply(event: Event, source: VoiceSource, clips: Sequence[Clip]) -> None:
    match event:
        case Unmute():
            source.muted = False
        case Mute() | Leave():
            source.muted = True
        case Say(clip=number):
            source.say(clips[number % len(clips)])
        case ShareScreen():
            source.beeping = True
        case StopScreen():
            source.beeping = False


def _ns(at_s: float) -> int:
    return ZERO_NS + round(at_s * 1e9)


def _time(at_s: float) -> str:
    minutes, seconds = divmod(at_s, 60)
    return f"00:{int(minutes):02}:{seconds:06.3f}"
