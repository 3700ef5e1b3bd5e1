"""Times for the words of a text that a service wrote with punctuation, from the words that it timed."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Final

from jobs.transcriber.engines.base import Word

_UNSURE: Final = 0.5
"""Probability of a word about which the service said nothing."""


def timed_text(
    text: str, timed: Sequence[Word], *, start_s: float, end_s: float
) -> tuple[Word, ...]:
    """The text's words; those that are not among `timed` share the time between their neighbours.

    `start_s`, `end_s`: what the text covers.
    """
    shown = text.split()
    found: list[Word | None] = [None] * len(shown)
    matcher = SequenceMatcher(
        None, [_bare(word) for word in shown], [_bare(word.text) for word in timed], autojunk=False
    )
    for at_shown, at_timed, count in matcher.get_matching_blocks():
        for offset in range(count):
            found[at_shown + offset] = timed[at_timed + offset]
    probability = sum(w.probability for w in timed) / len(timed) if timed else _UNSURE
    words: list[Word] = []
    at_s = start_s
    index = 0
    while index < len(shown):
        match = found[index]
        if match is not None:
            at_s = max(at_s, match.start_s)
            end_of_word_s = max(at_s, match.end_s)
            words.append(Word(shown[index], at_s, end_of_word_s, match.probability))
            at_s = end_of_word_s
            index += 1
            continue
        after = next((i for i in range(index, len(shown)) if found[i] is not None), len(shown))
        known = found[after] if after < len(shown) else None
        until_s = max(at_s, known.start_s if known is not None else end_s)
        words += _spread(shown[index:after], at_s, until_s, probability)
        at_s, index = until_s, after
    return tuple(words)


def _spread(texts: Sequence[str], start_s: float, end_s: float, probability: float) -> list[Word]:
    """By their lengths."""
    total = sum(len(text) for text in texts)
    words: list[Word] = []
    done = 0
    for text in texts:
        begin_s = start_s + (end_s - start_s) * done / total
        done += len(text)
        words.append(Word(text, begin_s, start_s + (end_s - start_s) * done / total, probability))
    return words


def _bare(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum()) or text
