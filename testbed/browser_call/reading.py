"""Whether captions on a page are of what was heard there, and in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from testbed.analysis.speech import align, split_words

CAPTIONED_WITHIN_S: Final = 3.0
"""From the end of a sentence as it is heard: what comes later is about what nobody remembers."""
_LOUD: Final = 0.01
_PAUSE_S: Final = 0.7
"""Shorter silence lies within a sentence."""
_LEAST_S: Final = 0.8
"""Shorter sounds are no sentence."""


@dataclass(frozen=True, slots=True)
class Read:
    """A sentence that was heard, and the captions of it."""

    start_s: float
    end_s: float
    wanted: str
    """What was said, of those sentences that may be: the one whose words were captioned best."""
    got: str
    """The caption that fits it best, of those that came in time."""
    errors: int
    """Words of `wanted` and `got` that do not fit."""


def heard(levels: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Beginning and end of each sentence in the levels (RMS 0…1) of a voice."""
    found: list[tuple[float, float]] = []
    for at_s, level in levels:
        if level < _LOUD:
            continue
        if found and at_s - found[-1][1] < _PAUSE_S:
            found[-1] = (found[-1][0], at_s)
        else:
            found.append((at_s, at_s))
    return [(start_s, end_s) for start_s, end_s in found if end_s - start_s >= _LEAST_S]


def read(
    levels: Sequence[tuple[float, float]],
    captions: Sequence[tuple[float, str]],
    texts: Sequence[str],
    *,
    from_s: float,
    within_s: float = CAPTIONED_WITHIN_S,
) -> list[Read]:
    """Each sentence that began after `from_s`, and whose captions had their `within_s` after its end."""
    until_s = levels[-1][0] if levels else 0.0
    judged = []
    for start_s, end_s in heard(levels):
        if start_s < from_s or end_s + within_s > until_s:
            continue
        shown = {
            text.partition(": ")[2]
            for at_s, text in captions
            if start_s <= at_s <= end_s + within_s
        }
        errors, wanted, got = min((_errors(w, g), w, g) for w in texts for g in shown or {""})
        judged.append(Read(start_s, end_s, wanted, got, errors))
    return judged


def _errors(wanted: str, got: str) -> int:
    return sum(step.operation != "same" for step in align(split_words(wanted), split_words(got)))
