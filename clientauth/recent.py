"""What is known of clients, for requests of a source whose wrong keys are too many already.

Thousands of those a second shall not read the database each: they see clients as they were a second ago, and
read one at a time what they need beyond that. The right key of a client passes among them all the same.
"""

from __future__ import annotations

import asyncio
from typing import Final

from clientauth.store import ClientStore, StoredClient
from foundation.clock import Clock

KEPT_NS: Final = 1_000_000_000
_CAPACITY: Final = 1024


class RecentClients:
    """Lives on one event loop."""

    def __init__(self, *, store: ClientStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[StoredClient | None, int]] = {}
        """With the time until which it counts; the oldest first."""
        self._reading = asyncio.Lock()

    async def find(self, client_id: str) -> StoredClient | None:
        """As `ClientStore.find`, of the last second."""
        if self._is_known(client_id):
            return self._known[client_id][0]
        async with self._reading:
            if self._is_known(client_id):  # somebody else has read it meanwhile
                return self._known[client_id][0]
            found = await self._store.find(client_id)
            self._keep(client_id, found)
            return found

    def forget(self, client_id: str) -> None:
        """The client is gone, is new, or has another key."""
        self._known.pop(client_id, None)

    def _is_known(self, client_id: str) -> bool:
        return client_id in self._known and self._clock.monotonic_ns() < self._known[client_id][1]

    def _keep(self, client_id: str, client: StoredClient | None) -> None:
        self._known.pop(client_id, None)
        if len(self._known) >= _CAPACITY:
            del self._known[next(iter(self._known))]
        self._known[client_id] = (client, self._clock.monotonic_ns() + KEPT_NS)
