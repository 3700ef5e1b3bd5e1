"""What all formats are made of."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

UNKNOWN_SPEAKER: Final = "Unknown speaker"
_ALLOWED_MARKS: Final = frozenset(" .-_")


@dataclass(frozen=True, slots=True)
class Cue:
    """One speaker's words in one stretch of the recording."""

    start_ms: int
    end_ms: int
    """Above `start_ms`."""
    speaker: str
    """A display name, see `display_name`."""
    text: str
    """One line, no markup."""


def in_order(cues: Iterable[Cue]) -> list[Cue]:
    """By start over all speakers; what starts together keeps its order."""
    return sorted(cues, key=lambda cue: cue.start_ms)


def display_name(first_name: str, last_name: str, username: str) -> str:
    """First and last name, or either alone, else the username (calls-plugin.md 8.5).

    Only letters (of any script, with their marks), digits, space, `.`, `-` and `_` are kept.
    """
    full = _allowed(f"{first_name.strip()} {last_name.strip()}").strip()
    return full or _allowed(username).strip() or UNKNOWN_SPEAKER


def _allowed(name: str) -> str:
    return "".join(
        c
        for c in name
        if c in _ALLOWED_MARKS
        or unicodedata.category(c)[0] in "LM"
        or unicodedata.category(c) == "Nd"
    )
