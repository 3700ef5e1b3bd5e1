"""What viewers got, against what was said: lags, words lost, words that were taken back. Pure.

A word counts from the caption on in which it is first seen. *Partial* are captions in mid-speech: from the
end of the newest word that a caption brought to its arrival. *Final* is the end of a turn: from the end of
its last word to the caption that brought it. A turn ends where its speaker is silent for half a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from benchmarks.captions.talk import Phase
from testbed.analysis.captions import percentile
from testbed.analysis.speech import align, split_words
from testbed.truth import Utterance

_EARLY_S: Final = 0.3
"""Word times and clocks are rounded, and words can be understood before their end."""
_MEMORY_S: Final = 40.0
_PAUSE_S: Final = 0.5
_AFTER_S: Final = 2.5
"""Captions so long after a phase still belong to it."""


@dataclass(frozen=True, slots=True)
class Caption:
    """As the stand-in got it; call time."""

    at_s: float
    speaker: str
    text: str


@dataclass(slots=True)
class SpokenWord:
    """One word of the truth; call time."""

    text: str
    end_s: float
    ends_turn: bool
    seen_s: float | None = None

    @property
    def lag_s(self) -> float:
        return (self.seen_s or 0.0) - self.end_s


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """One phase. Lags in s; None where there was nothing to measure."""

    name: str
    words: int
    lost: int
    partials: int
    partial_p50_s: float | None
    partial_p95_s: float | None
    turns: int
    final_p50_s: float | None
    final_p95_s: float | None
    word_p50_s: float | None
    word_p95_s: float | None
    shown: int
    """Words in all captions."""
    erased: int
    """Of them, seen and then changed or taken back."""

    @property
    def flicker(self) -> float:
        return self.erased / self.words if self.words else 0.0


@dataclass(slots=True)
class _Bucket:
    partial_s: list[float] = field(default_factory=list)
    final_s: list[float] = field(default_factory=list)
    shown: int = 0
    erased: int = 0


def judge(
    captions: Sequence[Caption],
    said: Mapping[str, Sequence[Utterance]],
    phases: Sequence[Phase],
    *,
    zero_ns: int,
) -> list[PhaseResult]:
    """`said` by speaker; `zero_ns` is call time 0 on the clock of the utterances."""
    words = {speaker: spoken_words(own, zero_ns=zero_ns) for speaker, own in said.items()}
    buckets = {phase.name: _Bucket() for phase in phases}
    before: dict[str, list[str]] = {}
    for caption in sorted(captions, key=lambda caption: caption.at_s):
        text = split_words(caption.text)
        brought = _bring(caption, text, words.get(caption.speaker, []))
        if brought is not None:
            bucket = buckets.get(_phase_at(brought.end_s, phases))
            if bucket is not None:
                lags_s = bucket.final_s if brought.ends_turn else bucket.partial_s
                lags_s.append(brought.lag_s)
        bucket = buckets.get(_phase_at(caption.at_s, phases))
        if bucket is not None:
            bucket.shown += len(text)
            bucket.erased += erased_words(before.get(caption.speaker, []), text)
        before[caption.speaker] = text
    everything = [word for own in words.values() for word in own]
    return [_result(phase, buckets[phase.name], everything, phases) for phase in phases]


def spoken_words(utterances: Sequence[Utterance], *, zero_ns: int) -> list[SpokenWord]:
    """One speaker's words in order."""
    ordered = sorted(utterances, key=lambda utterance: utterance.start_ns)
    words = [
        SpokenWord(word.text.lower(), (utterance.word_end_ns(n) - zero_ns) / 1e9, False)
        for utterance in ordered
        for n, word in enumerate(utterance.words)
    ]
    starts_s = [(u.word_start_ns(n) - zero_ns) / 1e9 for u in ordered for n in range(len(u.words))]
    for (word, _), (_, next_start_s) in pairwise(zip(words, starts_s, strict=True)):
        word.ends_turn = next_start_s - word.end_s >= _PAUSE_S
    if words:
        words[-1].ends_turn = True
    return words


def erased_words(before: Sequence[str], after: Sequence[str]) -> int:
    """Words of a text that its successor changed or took back.

    A successor may drop words in front, as a window that moves on does, and add some behind; a line that has
    nothing in common with the one before is a new one.
    """
    # Best alignment of an end of `before` with a beginning of `after`: (score, words not kept).
    row: list[tuple[int, int]] = [(0, 0), *((-j, 0) for j in range(1, len(after) + 1))]
    for word in before:
        new: list[tuple[int, int]] = [(0, 0)]
        for j, other in enumerate(after, 1):
            same = word == other
            new.append(
                max(
                    (row[j - 1][0] + (1 if same else -1), row[j - 1][1] - (not same)),
                    (row[j][0] - 1, row[j][1] - 1),
                    (new[j - 1][0] - 1, new[j - 1][1]),
                )
            )
        row = new
    score, kept = max(row)
    return -kept if score > 0 else 0


def _bring(caption: Caption, text: Sequence[str], words: Sequence[SpokenWord]) -> SpokenWord | None:
    """Mark what is seen for the first time; returns the newest of it."""
    candidates = [
        word for word in words if word.end_s - _EARLY_S <= caption.at_s <= word.end_s + _MEMORY_S
    ]
    newest = None
    for step in align([word.text for word in candidates], text):
        if step.operation == "same" and step.reference is not None:
            word = candidates[step.reference]
            if word.seen_s is None:
                word.seen_s = caption.at_s
                newest = word
    return newest


def _phase_at(at_s: float, phases: Sequence[Phase]) -> str:
    for phase in phases:
        if phase.start_s <= at_s <= phase.end_s + _AFTER_S:
            return phase.name
    return ""


def _result(
    phase: Phase, bucket: _Bucket, everything: Sequence[SpokenWord], phases: Sequence[Phase]
) -> PhaseResult:
    own = [word for word in everything if _phase_at(word.end_s, phases) == phase.name]
    lags_s = [word.lag_s for word in own if word.seen_s is not None]
    return PhaseResult(
        name=phase.name,
        words=len(own),
        lost=len(own) - len(lags_s),
        partials=len(bucket.partial_s),
        partial_p50_s=percentile(bucket.partial_s, 0.5),
        partial_p95_s=percentile(bucket.partial_s, 0.95),
        turns=sum(word.ends_turn for word in own),
        final_p50_s=percentile(bucket.final_s, 0.5),
        final_p95_s=percentile(bucket.final_s, 0.95),
        word_p50_s=percentile(lags_s, 0.5),
        word_p95_s=percentile(lags_s, 0.95),
        shown=bucket.shown,
        erased=bucket.erased,
    )
