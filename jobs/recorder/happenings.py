"""What happens in the call and passes: reactions and what the host did (calls-plugin.md 7.4)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_SECOND_NS: Final = 1_000_000_000
_REACTION_NS: Final = 10 * _SECOND_NS
_NOTICE_NS: Final = 5 * _SECOND_NS
_MAX_REACTIONS: Final = 50
_MAX_NOTICES: Final = 8
_MAX_POINTS: Final = 16
"""The longest emoji has ten code points."""


@dataclass(frozen=True, slots=True)
class Emoji:
    """As the plugin tells it (calls-plugin.md 3.2, `user_reacted`)."""

    name: str
    """Its short name, such as `tada`."""
    unified: str = ""
    """Code points in hex joined by '-', such as `1f389`; may be empty."""
    literal: str = ""
    """The character itself; may be empty."""

    @property
    def text(self) -> str:
        """The character, or empty for a picture that only the server has."""
        try:
            points = [int(part, 16) for part in self.unified.split("-")[:_MAX_POINTS]]
            return "".join(map(chr, points))
        except (ValueError, OverflowError):
            return self.literal[:_MAX_POINTS]


@dataclass(frozen=True, slots=True)
class Reaction:
    """Somebody reacted."""

    session_id: str
    emoji: Emoji
    at_ns: int
    name: str = ""
    """Filled in once it is known."""

    @property
    def until_ns(self) -> int:
        return self.at_ns + _REACTION_NS

    def shown_at(self, now_ns: int) -> bool:
        return now_ns < self.until_ns


@dataclass(frozen=True, slots=True)
class Notice:
    """The host did something to somebody, who is named before `text`."""

    session_id: str
    text: str
    at_ns: int
    name: str = ""
    """Filled in once it is known."""

    @property
    def until_ns(self) -> int:
        return self.at_ns + _NOTICE_NS

    def shown_at(self, now_ns: int) -> bool:
        return now_ns < self.until_ns


class Happenings:
    """The newest of them; times are monotonic and come from the caller."""

    def __init__(self) -> None:
        self._reactions: deque[Reaction] = deque(maxlen=_MAX_REACTIONS)
        self._notices: deque[Notice] = deque(maxlen=_MAX_NOTICES)

    def reacted(self, session_id: str, emoji: Emoji, now_ns: int) -> None:
        self._reactions.append(Reaction(session_id, emoji, now_ns))

    def host_changed(self, session_id: str, now_ns: int) -> None:
        """`session_id`: one of the new host's."""
        self._notices.append(Notice(session_id, "is now the host", now_ns))

    def removed(self, session_id: str, now_ns: int) -> None:
        self._notices.append(Notice(session_id, "was removed from the call", now_ns))

    def reactions(self, now_ns: int) -> tuple[Reaction, ...]:
        """Those that have not passed, the newest last."""
        return tuple(r for r in self._reactions if r.shown_at(now_ns))

    def notices(self, now_ns: int) -> tuple[Notice, ...]:
        """Those that have not passed, the newest last."""
        return tuple(n for n in self._notices if n.shown_at(now_ns))
