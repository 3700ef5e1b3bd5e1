"""Who is in the call and what they do, built from events. Pure: no I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Participant:
    """One session in the call."""

    session_id: str
    user_id: str
    muted: bool = True
    speaking: bool = False
    raised_hand_at_ms: int = 0
    """0: not raised."""
    camera_on: bool = False


@dataclass(slots=True)
class CallState:
    """The current state of the call as far as the client knows. Read it; only the client changes it."""

    participants: dict[str, Participant] = field(default_factory=dict)
    """By session id, in the order in which they became known."""
    host_user_id: str = ""
    screen_session_id: str = ""
    """Who shares a screen, or empty."""

    def update(self, session_id: str, **changes: Any) -> None:
        """Change fields of a participant; unknown sessions are ignored (their join comes later)."""
        known = self.participants.get(session_id)
        if known is not None:
            self.participants[session_id] = replace(known, **changes)

    def join(self, session_id: str, user_id: str) -> None:
        self.participants.setdefault(session_id, Participant(session_id, user_id))

    def leave(self, session_id: str) -> None:
        self.participants.pop(session_id, None)
        if self.screen_session_id == session_id:
            self.screen_session_id = ""
