"""The signaling lock of one session (rtcd.md 3.2): whoever holds it may change tracks.

The server takes it round each track change of its own; the client asks for it over the data channel
before it offers. Unlike the original's, it knows its owner: a client cannot free the server's lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal


class SignalingLock:
    """For one event loop and one waiting server worker."""

    def __init__(self, *, held: Callable[[float], None] = lambda seconds: None) -> None:
        """`held` gets how long each holding was, in seconds."""
        self._held = held
        self._since = 0.0
        self._owner: Literal["server", "client"] | None = None
        self._free = asyncio.Event()
        self._free.set()

    @property
    def client_holds(self) -> bool:
        return self._owner == "client"

    async def acquire_for_server(self, *, timeout_s: float) -> bool:
        """Wait for the lock; False when it did not come in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._owner is not None:
                    await self._free.wait()
        except TimeoutError:
            return False
        self._take("server")
        return True

    def take_over(self) -> None:
        """For the server, whoever has it: the client has forgotten it, or its unlock was lost."""
        self._take("server")

    def release_by_server(self) -> None:
        if self._owner == "server":
            self._release()

    def try_for_client(self) -> bool:
        """Take it at once or not at all; a client that holds it already gets True again."""
        if self._owner is None:
            self._take("client")
        return self._owner == "client"

    def release_by_client(self) -> bool:
        """False when the client does not hold it."""
        if self._owner != "client":
            return False
        self._release()
        return True

    def _take(self, owner: Literal["server", "client"]) -> None:
        self._end_holding()
        self._owner, self._since = owner, _now_s()
        self._free.clear()

    def _release(self) -> None:
        self._end_holding()
        self._owner = None
        self._free.set()

    def _end_holding(self) -> None:
        if self._owner is not None:
            self._held(_now_s() - self._since)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
