"""Keys that were verified a moment ago, so that a client that polls does not cost a slow hash each time.

A key counts as verified for a minute, and only while the stored hash is the one it was verified against:
that is looked at every two seconds, so a client that another replica has unregistered, or whose key it has
changed, is out that soon. In this process `forget` does it at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from clientauth.store import ClientStore, StoredClient
from foundation.clock import Clock
from foundation.newest import keep_newest

VERIFIED_FOR_NS: Final = 60_000_000_000
LOOKED_AT_EVERY_NS: Final = 2_000_000_000
_CAPACITY: Final = 1024


@dataclass(slots=True)
class _Entry:
    digest: bytes
    client: StoredClient
    until_ns: int
    look_again_ns: int


class VerifiedKeys:
    """The newest so many; keys themselves are not kept, only digests under a salt of this process."""

    def __init__(self, *, store: ClientStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._salt = secrets.token_bytes(16)
        self._entries: dict[str, _Entry] = {}

    async def client_of(self, client_id: str, key: str) -> StoredClient | None:
        """The registration for which this key was verified and would be now; None: there is none such."""
        entry = self._entries.get(client_id)
        now_ns = self._clock.monotonic_ns()
        if entry is None or now_ns >= entry.until_ns:
            return None
        if not hmac.compare_digest(entry.digest, self._digest(key)):
            return None
        if now_ns >= entry.look_again_ns:
            if await self._store.find(client_id) != entry.client:
                self.forget(client_id)
                return None
            entry.look_again_ns = now_ns + LOOKED_AT_EVERY_NS
        return entry.client

    def remember(self, client_id: str, key: str, *, client: StoredClient) -> None:
        """`key` was verified against `client`, which the store gave just before."""
        now_ns = self._clock.monotonic_ns()
        entry = _Entry(
            self._digest(key), client, now_ns + VERIFIED_FOR_NS, now_ns + LOOKED_AT_EVERY_NS
        )
        keep_newest(self._entries, client_id, entry, most=_CAPACITY)

    def forget(self, client_id: str) -> None:
        """The client is gone, or has another key."""
        self._entries.pop(client_id, None)

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), key=self._salt).digest()
