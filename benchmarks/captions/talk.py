"""What is said in a measured call: turns of four people, four at once, eight at once, turns again. Pure.

Sentences of a turn follow each other without a pause that ends an utterance, so utterances are 2 to 9 s long.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.scenario import Event, Join, Mute, Say, Unmute
from testbed.speech.clips import Clip

SPEAKERS: Final = tuple(f"p{number}" for number in range(1, 9))
_FEW: Final = SPEAKERS[:4]
_REST_S: Final = 3.0
"""Between phases: what was said before gets its captions before something else is measured."""
_RECOVERY_S: Final = 10.0
_AHEAD_S: Final = 2.0
"""People unmute so long before they talk."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the call with one number of people who talk; call time, s."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Talk:
    """A whole call."""

    events: Mapping[str, Sequence[Event]]
    """By speaker; the first one is the join."""
    phases: Sequence[Phase]
    end_s: float


def make_talk(clips: Mapping[str, Sequence[Clip]], *, seconds: float, seed: int = 7) -> Talk:
    """`seconds`: of turns at first; each crowd gets half of it, turns at the end get half."""
    script = _Script(clips, seed)
    phases = []
    at_s = _AHEAD_S
    script.add(0.0, [Unmute(0.0, name) for name in _FEW])
    for name, length_s, crowd in (
        ("1-2 talk", seconds, None),
        ("4 at once", seconds / 2, _FEW),
        ("8 at once", seconds / 2, SPEAKERS),
        ("1-2 talk, 10 s after", seconds / 2, None),
    ):
        if crowd is SPEAKERS:
            script.add(at_s, [Unmute(at_s, name) for name in SPEAKERS[4:]])
            at_s += _AHEAD_S
        said_s = (
            script.turns(at_s, at_s + length_s)
            if crowd is None
            else script.together(crowd, at_s, at_s + length_s)
        )
        phases.append(Phase(name, at_s, said_s))
        at_s = said_s + _REST_S
        if crowd is SPEAKERS:
            script.add(said_s + 0.5, [Mute(said_s + 0.5, name) for name in SPEAKERS[4:]])
            at_s = said_s + _RECOVERY_S
    return Talk(script.events, tuple(phases), at_s)


class _Script:
    def __init__(self, clips: Mapping[str, Sequence[Clip]], seed: int) -> None:
        self.events: dict[str, list[Event]] = {name: [Join(0.0, name)] for name in SPEAKERS}
        self._clips = clips
        self._random = random.Random(seed)
        self._next = dict.fromkeys(SPEAKERS, 0)

    def add(self, at_s: float, events: Sequence[Event]) -> None:
        for event in events:
            assert event.at_s == at_s
            self.events[event.bot].append(event)

    def turns(self, start_s: float, end_s: float) -> float:
        """One after the other; some begin before the last one has ended, listeners throw in a sentence."""
        at_s, said_s, last = start_s, start_s, ""
        while at_s < end_s:
            speaker = self._random.choice([name for name in _FEW if name != last])
            until_s = self._say(speaker, at_s, sentences=self._random.choice((1, 2, 2, 3)))
            if self._random.random() < 0.5:
                listener = self._random.choice([n for n in _FEW if n not in (speaker, last)])
                said_s = max(said_s, self._say(listener, at_s + 1.0, sentences=1))
            said_s, last = max(said_s, until_s), speaker
            at_s = until_s + self._random.choice((-0.5, 0.3, 0.8))
            at_s = max(at_s, said_s - 0.5)  # never three
        return said_s

    def together(self, crowd: Sequence[str], start_s: float, end_s: float) -> float:
        """Everybody without regard for the others, each with pauses of their own."""
        said_s = start_s
        for number, speaker in enumerate(crowd):
            at_s = start_s + number * 0.37 % 1.5
            while at_s < end_s - 2.0:
                at_s = self._say(speaker, at_s, sentences=self._random.choice((1, 2, 3)))
                said_s = max(said_s, at_s)
                at_s += self._random.uniform(0.6, 1.5)
        return said_s

    def _say(self, speaker: str, at_s: float, *, sentences: int) -> float:
        """Returns when it is said."""
        own = self._clips[speaker]
        # Never into what the same one is still saying: the bot would say it later.
        begun_s = max([at_s, *(_end_s(event, own) for event in self.events[speaker])])
        at_s = begun_s
        for _ in range(sentences):
            number = self._next[speaker]
            self._next[speaker] += 1
            self.events[speaker].append(Say(at_s, speaker, number))
            at_s += own[number % len(own)].duration_s
        return at_s


def _end_s(event: Event, clips: Sequence[Clip]) -> float:
    if not isinstance(event, Say):
        return event.at_s
    return event.at_s + clips[event.clip % len(clips)].duration_s
