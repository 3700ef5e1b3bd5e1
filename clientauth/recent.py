"""What is known of clients, for requests of a source whose wrong keys are too many already.

Thousands of those a second shall not read the database each: they see clients as they were a second ago, and
read one at a time what they need beyond that. The right key of a client passes among them all the same.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from clientauth.store import ClientStore, StoredClient
from foundation.clock import Clock
from foundation.newest import keep_newest

KEPT_NS: Final = 1_000_000_000
_CAPACITY: Final = 1024


class RecentClients:
    """Lives on one event loop."""

    def __init__(self, *, store: ClientStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[bytes, tuple[StoredClient | None, int]] = {}
        """With the time until which it counts; the oldest first. By digests: names that somebody
        tries have up to 1 MiB."""
        self._reading = asyncio.Lock()

    async def find(self, client_id: str) -> StoredClient | None:
        """As `ClientStore.find`, of the last second."""
        name = _digest(client_id)
        if self._is_known(name):
            return self._known[name][0]
        async with self._reading:
            if self._is_known(name):  # somebody else has read it meanwhile
                return self._known[name][0]
            found = await self._store.find(client_id)
            self._keep(name, found)
            return found

    def forget(self, client_id: str) -> None:
        """The client is gone, is new, or has another key."""
        self._known.pop(_digest(client_id), None)

    def _is_known(self, name: bytes) -> bool:
        return name in self._known and self._clock.monotonic_ns() < self._known[name][1]

    def _keep(self, name: bytes, client: StoredClient | None) -> None:
        until_ns = self._clock.monotonic_ns() + KEPT_NS
        keep_newest(self._known, name, (client, until_ns), most=_CAPACITY)


def _digest(client_id: str) -> bytes:
    return hashlib.blake2b(client_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
