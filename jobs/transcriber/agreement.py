"""LocalAgreement-2: a word is final when two hypotheses in a row agree on it. Pure.

After Macháček et al., "Turning Whisper into Real-Time Transcription System" (2023), section 3: the longest
common prefix of two consecutive hypotheses is committed; committed words never change.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_EDGE_NS: Final = 150_000_000
"""Words that end this close to the end of the audio may be half heard."""
_SEAM_NS: Final = 100_000_000
_LONGEST_REPEAT: Final = 5


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word in call time."""

    text: str
    start_ns: int
    end_ns: int
    probability: float


class LocalAgreement:
    """The words of one utterance, committed step by step.

    Hypotheses cover the audio from the latest `trim` on (at first: from the beginning), so they begin
    with the words committed since then, as far as the model hears them the same way again.
    """

    def __init__(self) -> None:
        self.committed: list[TimedWord] = []
        """Never shrinks, never changes."""
        self._trimmed = 0
        self._previous: list[TimedWord] = []

    @property
    def tail(self) -> tuple[TimedWord, ...]:
        """The latest hypothesis behind the committed words."""
        return tuple(self._previous)

    def update(self, hypothesis: Sequence[TimedWord], *, audio_end_ns: int) -> list[TimedWord]:
        """Take the next hypothesis; returns the words it commits."""
        tail = self._behind_committed(hypothesis)
        agreed = 0
        for old, new in zip(self._previous, tail, strict=False):
            if key(old.text) != key(new.text) or new.end_ns > audio_end_ns - _EDGE_NS:
                break
            agreed += 1
        self._previous = tail[agreed:]
        return self._commit(tail[:agreed])

    def finish(self, hypothesis: Sequence[TimedWord]) -> list[TimedWord]:
        """Take the last hypothesis: everything in it is committed."""
        tail = self._behind_committed(hypothesis)
        self._previous = []
        return self._commit(tail)

    def commit_before(self, limit_ns: int, *, min_probability: float) -> list[TimedWord]:
        """Commit the leading words of the latest hypothesis that end before `limit_ns` for sure."""
        count = 0
        for word in self._previous:
            if word.end_ns > limit_ns or word.probability < min_probability:
                break
            count += 1
        words, self._previous = self._previous[:count], self._previous[count:]
        return self._commit(words)

    def likely(self, *, audio_end_ns: int, min_probability: float) -> list[TimedWord]:
        """The leading words behind the committed ones that will hardly change; they may all the same."""
        words: list[TimedWord] = []
        for word in self._previous:
            if word.end_ns > audio_end_ns - _EDGE_NS or word.probability < min_probability:
                break
            words.append(word)
        return words

    def trim(self) -> None:
        """The audio of all committed words is gone from later hypotheses."""
        self._trimmed = len(self.committed)

    def _commit(self, words: Sequence[TimedWord]) -> list[TimedWord]:
        self.committed += words
        return list(words)

    def _behind_committed(self, hypothesis: Sequence[TimedWord]) -> list[TimedWord]:
        if self._trimmed:
            hypothesis = _without_repeat(self.committed[: self._trimmed], hypothesis)
        heard_again = self.committed[self._trimmed :]
        known = _length_of_prefix(heard_again, hypothesis) if heard_again else 0
        return list(hypothesis[known:])


def key(text: str) -> str:
    """What two spellings of a word have in common: letters and digits, case folded."""
    kept = (c for c in text.casefold() if unicodedata.category(c)[0] in "LMN")
    return "".join(kept) or text


def _length_of_prefix(committed: Sequence[TimedWord], hypothesis: Sequence[TimedWord]) -> int:
    """How many words at the beginning of the hypothesis stand for the committed ones.

    The prefix with the smallest edit distance; among equals the one that ends at the nearest time. When
    hardly anything matches, only times can tell.
    """
    wanted = [key(word.text) for word in committed]
    costs = list(range(len(wanted) + 1))  # edit distance of the empty prefix to wanted[:i]
    end_ns = committed[-1].end_ns
    best = (costs[-1], abs(end_ns - committed[0].start_ns), 0)
    for length, word in enumerate(hypothesis, start=1):
        heard = key(word.text)
        row = [length]
        for i, other in enumerate(wanted, start=1):
            row.append(min(costs[i] + 1, row[i - 1] + 1, costs[i - 1] + (heard != other)))
        costs = row
        best = min(best, (costs[-1], abs(word.end_ns - end_ns), length))
    if best[0] * 2 > len(wanted):
        return sum(1 for word in hypothesis if (word.start_ns + word.end_ns) // 2 < end_ns)
    return best[2]


def _without_repeat(
    committed: Sequence[TimedWord], hypothesis: Sequence[TimedWord]
) -> list[TimedWord]:
    """After a cut the model may hear the rest of the last word at the seam, or that word once more."""
    end_ns = committed[-1].end_ns
    words = [word for word in hypothesis if (word.start_ns + word.end_ns) // 2 > end_ns]
    if not words or words[0].start_ns > end_ns + _SEAM_NS:
        return words
    for length in range(min(_LONGEST_REPEAT, len(words), len(committed)), 0, -1):
        before = [key(word.text) for word in committed[-length:]]
        if before == [key(word.text) for word in words[:length]]:
            return words[length:]
    return words
