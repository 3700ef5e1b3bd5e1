"""Who is logged in on the admin's page: sessions of this process, each with an end."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final

from foundation.clock import Clock

IDLE_S: Final = 30 * 60.0
LONGEST_S: Final = 12 * 3600.0
MOST: Final = 64
"""Sessions at a time; one more ends the one that was idle longest."""


@dataclass(eq=False, slots=True)
class Session:
    """One login of the admin."""

    began_ns: int
    seen_ns: int
    """When somebody last did something with it."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def left_s(self, now_ns: int) -> float:
        """Until it ends if nobody does anything; not positive: it has ended."""
        if self.ended.is_set():
            return 0.0
        idle_s = IDLE_S - (now_ns - self.seen_ns) / 1e9
        return min(idle_s, LONGEST_S - (now_ns - self.began_ns) / 1e9)


class PageSessions:
    """One per process. Only hashes of tokens are kept."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self) -> str:
        """A new session's token."""
        now_ns = self._clock.monotonic_ns()
        for key, session in list(self._sessions.items()):
            if session.left_s(now_ns) <= 0:
                self._end(key)
        if len(self._sessions) >= MOST:
            self._end(min(self._sessions, key=lambda key: self._sessions[key].seen_ns))
        token = secrets.token_urlsafe(32)
        self._sessions[_hash(token)] = Session(now_ns, now_ns)
        return token

    def get(self, token: str, *, touch: bool) -> Session | None:
        """The token's session, or None. `touch`: somebody does something; not a page that only looks."""
        session = self._sessions.get(_hash(token))
        if session is None:
            return None
        now_ns = self._clock.monotonic_ns()
        if session.left_s(now_ns) <= 0:
            self._end(_hash(token))
            return None
        if touch:
            session.seen_ns = now_ns
        return session

    def left_s(self, session: Session) -> float:
        """See `Session.left_s`, as of now."""
        return session.left_s(self._clock.monotonic_ns())

    def end(self, token: str) -> None:
        """Log out; an unknown token is fine."""
        self._end(_hash(token))

    def _end(self, key: str) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            session.ended.set()


def _hash(token: str) -> str:
    """Tokens are random, so a fast hash is enough. A cookie may hold anything."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
