"""Bearer tokens: one live token for each client, with an end. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Protocol

from foundation.clock import Clock

_S_PER_MINUTE = 60


class TokenError(Exception):
    """The token is unknown or over; the message is the reference's text."""


@dataclass(frozen=True, slots=True)
class StoredSession:
    """What is known of a token."""

    client_id: str
    expired: bool


class SessionStore(Protocol):
    """Where sessions are kept, by the SHA-256 of their tokens. Every method may be called concurrently."""

    async def put(self, client_id: str, token_hash: str, *, lifetime_s: float) -> None:
        """The client's session from now on; an earlier one ends."""

    async def get(self, token_hash: str) -> StoredSession | None:
        """The session, or None."""

    async def delete(self, token_hash: str) -> None:
        """End a session; an unknown one is fine."""

    async def delete_of(self, client_id: str) -> None:
        """End the client's session, if any."""


class MemorySessionStore:
    """Forgets everything with the process, as the reference does."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, tuple[str, int]] = {}
        self._hash_of: dict[str, str] = {}

    async def put(self, client_id: str, token_hash: str, *, lifetime_s: float) -> None:
        await self.delete_of(client_id)
        expires_ns = self._clock.monotonic_ns() + round(lifetime_s * 1e9)
        self._sessions[token_hash] = (client_id, expires_ns)
        self._hash_of[client_id] = token_hash

    async def get(self, token_hash: str) -> StoredSession | None:
        found = self._sessions.get(token_hash)
        if found is None:
            return None
        client_id, expires_ns = found
        return StoredSession(client_id, expired=self._clock.monotonic_ns() >= expires_ns)

    async def delete(self, token_hash: str) -> None:
        found = self._sessions.pop(token_hash, None)
        if found is not None:
            del self._hash_of[found[0]]

    async def delete_of(self, client_id: str) -> None:
        await self.delete(self._hash_of.get(client_id, ""))


class SessionCache:
    """Token to client."""

    def __init__(
        self, *, expiration_minutes: int, clock: Clock, store: SessionStore | None = None
    ) -> None:
        """`store` None: in memory. Raises ValueError when `expiration_minutes` is not positive."""
        if expiration_minutes <= 0:
            raise ValueError("invalid ExpirationMinutes value: should be a positive number")
        self._lifetime_s = expiration_minutes * _S_PER_MINUTE
        self._store = store or MemorySessionStore(clock=clock)

    async def create(self, client_id: str) -> str:
        """A new token; the client's earlier one ends."""
        token = secrets.token_urlsafe(24)
        await self._store.put(client_id, _hash(token), lifetime_s=self._lifetime_s)
        return token

    async def client_of(self, token: str) -> str:
        """Whose token it is. Raises TokenError."""
        token_hash = _hash(token)
        session = await self._store.get(token_hash)
        if session is None:
            raise TokenError("token is invalid")
        if session.expired:
            await self._store.delete(token_hash)
            raise TokenError("session is expired")
        return session.client_id

    async def end(self, client_id: str) -> None:
        """End the client's session, if any."""
        await self._store.delete_of(client_id)


def _hash(token: str) -> str:
    """Tokens are random, so a fast hash is enough. Headers may hold anything, also what is not Unicode."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
