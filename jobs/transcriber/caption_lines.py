"""Cutting a stream of final words into caption lines. Pure.

A viewer sees the newest message of a speaker for five seconds, so every message is a line that can be
read alone: it grows word by word until it is full, then a new one begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_LINE_CHARS: Final = 120
_SENTENCE_ENDS: Final = (".", "?", "!", "。", "？", "！", "…")
_EARLY_BREAK_CHARS: Final = 60
"""A line this long ends with its sentence instead of taking the next one in."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands after some words were added."""

    number: int
    """Rises with every new line of this speaker; the same number means: replaces the text before."""
    text: str


class LineBuilder:
    """The lines of one speaker."""

    def __init__(self, *, max_chars: int = MAX_LINE_CHARS) -> None:
        self._max_chars = max_chars
        self._number = 0
        self._text = ""

    def add(self, words: Iterable[str]) -> list[Line]:
        """Append words; returns every line that changed, in its latest form."""
        changed: dict[int, Line] = {}
        for word in words:
            for piece in self._pieces(word):
                if self._text and not self._fits(piece):
                    self.end_line()
                self._text = f"{self._text} {piece}" if self._text else piece
                changed[self._number] = Line(self._number, self._text)
        return list(changed.values())

    def with_more(self, words: Iterable[str]) -> Line | None:
        """The open line with as many words behind it as fit, none of which is taken over; None: it is empty.

        A word that would begin the next line waits until it is added.
        """
        text = self._text
        for word in words:
            longer = f"{text} {word}" if text else word
            if len(longer) > self._max_chars or self._ends_here(text):
                break
            text = longer
        return Line(self._number, text) if text else None

    def end_line(self) -> None:
        """What comes next begins a new line."""
        if self._text:
            self._number += 1
            self._text = ""

    def _fits(self, piece: str) -> bool:
        if self._ends_here(self._text):
            return False
        return len(self._text) + 1 + len(piece) <= self._max_chars

    @staticmethod
    def _ends_here(text: str) -> bool:
        return len(text) >= _EARLY_BREAK_CHARS and text.endswith(_SENTENCE_ENDS)

    def _pieces(self, word: str) -> list[str]:
        """The word, in pieces only if it is longer than a line (scripts without spaces)."""
        return [word[i : i + self._max_chars] for i in range(0, len(word), self._max_chars)]
