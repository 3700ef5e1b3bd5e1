"""A call as a recording should show it: the truth in recording time, and what must be seen when.

Moments that depend on reaction times (of the SFU's voice activity, of a first picture) are left out:
each judgement is *required*, *forbidden* or not made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from testbed.analysis.speech import Spoken
from testbed.bots.world import User
from testbed.truth import MarkKind, Truth

RING_ON_AFTER_S: Final = 0.7
"""The SFU's voice activity reacts to the first loud packets within a fifth of a second; then one event,
one redraw, one frame interval. The rest is patience with a busy machine."""
RING_OFF_AFTER_SOUND_S: Final = 1.9
"""It falls back when the whole last second was silent (rtcd.md 3.10); the rest as above."""
RING_OFF_AFTER_ONSET_S: Final = 2.9
"""… and not sooner than 2 s after it came on."""
SETTLED_S: Final = 1.0
"""After somebody joins, leaves, mutes or unmutes the tiles may still move."""
SCREEN_ON_AFTER_S: Final = 2.0
"""From the start of a share until its picture must be there: negotiation, key frame, decoding."""
SCREEN_OFF_AFTER_S: Final = 1.0
EDGE_S: Final = 0.3
"""Kept clear of everything that ends."""
SAMPLE_EVERY_S: Final = 0.25

Expectation = Literal["required", "forbidden", "open"]


@dataclass(frozen=True, slots=True)
class Moment:
    """What the picture must show at one time."""

    at_s: float
    screen: Expectation
    tiles: tuple[str, ...] = ()
    """Bots with a tile, in order of their places; empty when not judged."""
    ring: Mapping[str, Expectation] | None = None
    """Per bot with a tile."""


@dataclass(frozen=True, slots=True)
class Call:
    """The truth of one recorded call."""

    truth: Truth
    users: Mapping[str, User]
    """By bot."""
    zero_ns: int
    """The recording's start on the monotonic clock."""
    end_ns: int
    """When it was stopped."""

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.zero_ns) / 1e9

    def time_s(self, at_ns: int) -> float:
        """Recording time."""
        return (at_ns - self.zero_ns) / 1e9

    def spoken(self) -> list[Spoken]:
        """All sentences that were said completely within the recording."""
        return [s for s in self.spoken_so_far() if s.utterance.end_ns <= self.end_ns]

    def spoken_so_far(self) -> list[Spoken]:
        """All sentences begun within the recording, while the call goes on."""
        return [
            Spoken(self.users[utterance.bot].transcript_name, utterance, self.zero_ns)
            for utterance in self.truth.utterances
            if self.zero_ns <= utterance.start_ns
        ]

    def marks_s(self, kind: MarkKind, bot: str | None = None) -> list[float]:
        """Recording times of marks."""
        return [self.time_s(at_ns) for at_ns in self.truth.times_ns(kind, bot)]

    def shares_s(self) -> list[tuple[str, float, float]]:
        """(bot, start, stop) of every screen share."""
        shares: list[tuple[str, float, float]] = []
        for mark in self.truth.marks:
            if mark.kind == "screen_start":
                shares.append((mark.bot, self.time_s(mark.at_ns), self.duration_s))
            elif mark.kind == "screen_stop":
                bot, start_s, _ = shares.pop()
                shares.append((bot, start_s, self.time_s(mark.at_ns)))
        return shares

    def beeps_with_picture_s(self) -> list[float]:
        """Recording times of beeps whose flash must be seen: the share is up and not about to end."""
        return [
            beep_s
            for beep_s in self.marks_s("beep")
            for _, start_s, stop_s in self.shares_s()
            if start_s + SCREEN_ON_AFTER_S <= beep_s <= stop_s - EDGE_S
        ]

    def moments(self) -> list[Moment]:
        """What to look at, in order of time."""
        count = int((self.duration_s - 2 * SETTLED_S) / SAMPLE_EVERY_S)
        return [self.moment(SETTLED_S + i * SAMPLE_EVERY_S) for i in range(count)]

    def moment(self, at_s: float) -> Moment:
        """What the picture must show at `at_s`."""
        screen = self._screen(at_s)
        if screen != "forbidden" or self._unsettled(at_s):
            return Moment(at_s, screen)
        at_ns = self.zero_ns + round(at_s * 1e9)
        present = self.truth.present(at_ns)
        muted = {bot: self.truth.muted(bot, at_ns) for bot in present}
        # By name, then (stable) the unmuted first (calls-plugin.md 7.5); nobody presents here.
        order = sorted(present, key=lambda bot: (muted[bot], self.users[bot].tile_name))
        ring = {bot: self._ring(bot, at_s, muted=muted[bot]) for bot in present}
        return Moment(at_s, screen, tuple(order), ring)

    def _screen(self, at_s: float) -> Expectation:
        for _, start_s, stop_s in self.shares_s():
            if start_s + SCREEN_ON_AFTER_S <= at_s <= stop_s - EDGE_S:
                return "required"
            if start_s - EDGE_S <= at_s <= stop_s + SCREEN_OFF_AFTER_S:
                return "open"
        return "forbidden"

    def _unsettled(self, at_s: float) -> bool:
        kinds: Sequence[MarkKind] = ("join", "leave", "mute", "unmute")
        return any(
            changed_s - EDGE_S <= at_s <= changed_s + SETTLED_S
            for kind in kinds
            for changed_s in self.marks_s(kind)
        )

    def _ring(self, bot: str, at_s: float, *, muted: bool) -> Expectation:
        if muted:
            return "forbidden"
        sounds = self.sounds_s(bot)
        if any(onset_s + RING_ON_AFTER_S <= at_s <= end_s - EDGE_S for onset_s, end_s in sounds):
            return "required"
        if any(
            onset_s - EDGE_S
            <= at_s
            <= max(end_s + RING_OFF_AFTER_SOUND_S, onset_s + RING_OFF_AFTER_ONSET_S)
            for onset_s, end_s in sounds
        ):
            return "open"
        return "forbidden"

    def sounds_s(self, bot: str) -> list[tuple[float, float]]:
        """Sentences and beeps of one bot: when they are heard."""
        sentences = [
            (self.time_s(u.onset_ns), self.time_s(u.end_ns))
            for u in self.truth.utterances
            if u.bot == bot
        ]
        return sentences + [(beep_s, beep_s) for beep_s in self.marks_s("beep", bot)]
