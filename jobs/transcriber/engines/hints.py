"""What the engines may be told about a call: who takes part, where, and the words that are used there.

Whisper reads it as if it had been said just before, so that it writes names as people write them. None of
it may get into a log line.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

MAX_WORDS: Final = 100
MAX_WORD_CHARACTERS: Final = 50
_MAX_NAMES: Final = 40
_UNSPEAKABLE: Final = re.compile(r"[\x00-\x1f<>|]+")


@dataclass(frozen=True, slots=True)
class Hints:
    """One state of it; empty texts: nothing is known."""

    prompt: str = field(default="", repr=False)
    """Channel and participants, as a sentence."""
    hotwords: str = field(default="", repr=False)
    """The organisation's vocabulary, separated by commas."""

    @property
    def text(self) -> str:
        """Both in one, for engines that take one text."""
        return " ".join(part for part in (self.hotwords, self.prompt) if part)


class CallHints:
    """Grows while the call shows who takes part. Engines read it in their threads."""

    def __init__(self, *, vocabulary: Iterable[str] = (), channel_name: str = "") -> None:
        self._lock = threading.Lock()
        self._vocabulary = tuple(clean(word) for word in vocabulary)[:MAX_WORDS]
        self._channel_name = clean(channel_name)
        self._names: tuple[str, ...] = ()
        self._hints = self._written()

    @property
    def now(self) -> Hints:
        return self._hints

    def channel(self, name: str) -> None:
        """The channel is called so."""
        with self._lock:
            self._channel_name = clean(name)
            self._hints = self._written()

    def participant(self, name: str) -> None:
        """Somebody with this name takes part; the latest 40 count."""
        name = clean(name)
        with self._lock:
            if name and name not in self._names:
                self._names = (*self._names, name)[-_MAX_NAMES:]
                self._hints = self._written()

    def told(self, hints: Hints) -> None:
        """All of it, as another process knows it; it counts until that is told the next time."""
        self._hints = hints

    def _written(self) -> Hints:
        known = [name for name in (self._channel_name, *self._names) if name]
        hotwords = ", ".join(word for word in self._vocabulary if word)
        return Hints(prompt=f"{', '.join(known)}." if known else "", hotwords=hotwords)


def clean(text: str) -> str:
    """One short line without what models read as their own marks."""
    return " ".join(_UNSPEAKABLE.sub(" ", text).split())[:MAX_WORD_CHARACTERS]


def channel_name_of(base_name: str) -> str:
    """`Town Square` of `Call_Town_Square_2026-01-31_10-05-09` (calls-plugin.md 5.2); empty if it has none."""
    match = re.fullmatch(r"Call_(.+)_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", base_name)
    if match is None or re.fullmatch(r"[a-z0-9]{26}", match[1]):
        return ""
    return match[1].replace("_", " ").strip()
