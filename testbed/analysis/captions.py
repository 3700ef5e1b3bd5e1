"""Judges live captions: which words each one brought, how late, and whether every sentence got one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from testbed.analysis.speech import Spoken, align, split_words

_EARLY_S: Final = 0.3
"""A caption cannot come before its words are over; this much is rounding of clocks and word times."""
_MEMORY_S: Final = 12.0
"""A caption later than this is about nothing any more."""


@dataclass(frozen=True, slots=True)
class Caption:
    """One live caption as a participant received it; recording time."""

    received_s: float
    speaker: str
    text: str


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """One caption against the truth."""

    caption: Caption
    spoken: Spoken | None
    """The sentence that its last words are of; None: nobody of that name said anything like it."""
    said_s: float | None
    """When the last of its words was over."""

    @property
    def lag_s(self) -> float | None:
        """From the end of its last word to its arrival."""
        return None if self.said_s is None else self.caption.received_s - self.said_s


@dataclass(frozen=True, slots=True)
class SentenceCaptions:
    """What one sentence got."""

    spoken: Spoken
    count: int
    last_after_end_s: float | None
    """From the sentence's end to its last caption; None: it got none. Negative: before it was over."""


def judge_captions(captions: Sequence[Caption], spoken: Sequence[Spoken]) -> list[CaptionResult]:
    """Every caption with the sentence it belongs to."""
    return [judge_caption(caption, spoken) for caption in captions]


def judge_caption(caption: Caption, spoken: Sequence[Spoken]) -> CaptionResult:
    """Find what a caption is about: among that speaker's recent sentences, the last one it has words of.

    A caption may repeat words of earlier sentences (calls-plugin.md 8.1); its newest words count.
    """
    recent = [
        sentence
        for sentence in sorted(spoken, key=lambda s: s.start_s)
        if sentence.speaker == caption.speaker
        and sentence.start_s - _EARLY_S <= caption.received_s <= sentence.end_s + _MEMORY_S
    ]
    places = [
        (sentence, index)
        for sentence in recent
        for index in range(len(sentence.words))
        if sentence.word_end_s(index) - _EARLY_S <= caption.received_s
    ]
    steps = align([s.words[i] for s, i in places], split_words(caption.text))
    matched = [step.reference for step in steps if step.operation == "same"]
    if not matched or matched[-1] is None:
        return CaptionResult(caption, None, None)
    sentence, index = places[matched[-1]]
    return CaptionResult(caption, sentence, sentence.word_end_s(index))


def per_sentence(
    results: Sequence[CaptionResult], spoken: Sequence[Spoken]
) -> list[SentenceCaptions]:
    """What each sentence got, in the order of `spoken`."""
    found = []
    for sentence in spoken:
        times_s = [r.caption.received_s for r in results if r.spoken is sentence]
        last_s = max(times_s) - sentence.end_s if times_s else None
        found.append(SentenceCaptions(sentence, len(times_s), last_s))
    return found


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` (0…1) of all do not exceed; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
