"""Bearer tokens: one live token for each client, in memory, with an end."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from foundation.clock import Clock

_NS_PER_MINUTE = 60_000_000_000


class TokenError(Exception):
    """The token is unknown or over; the message is the reference's text."""


@dataclass(frozen=True, slots=True)
class _Session:
    client_id: str
    expires_ns: int


class SessionCache:
    """Token to client."""

    def __init__(self, *, expiration_minutes: int, clock: Clock) -> None:
        """Raises ValueError when `expiration_minutes` is not positive."""
        if expiration_minutes <= 0:
            raise ValueError("invalid ExpirationMinutes value: should be a positive number")
        self._lifetime_ns = expiration_minutes * _NS_PER_MINUTE
        self._clock = clock
        self._by_token: dict[str, _Session] = {}
        self._token_of: dict[str, str] = {}

    def create(self, client_id: str) -> str:
        """A new token; the client's earlier one ends."""
        self.end(client_id)
        token = secrets.token_urlsafe(24)
        expires_ns = self._clock.monotonic_ns() + self._lifetime_ns
        self._by_token[token] = _Session(client_id, expires_ns)
        self._token_of[client_id] = token
        return token

    def client_of(self, token: str) -> str:
        """Whose token it is. Raises TokenError."""
        session = self._by_token.get(token)
        if session is None:
            raise TokenError("token is invalid")
        if self._clock.monotonic_ns() >= session.expires_ns:
            self.end(session.client_id)
            raise TokenError("session is expired")
        return session.client_id

    def end(self, client_id: str) -> None:
        """End the client's session, if any."""
        token = self._token_of.pop(client_id, None)
        if token is not None:
            del self._by_token[token]
