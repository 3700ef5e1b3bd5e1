"""The original's signaling lock: one token and no owner (rtcd.md 3.2). Any unlock frees it."""

from __future__ import annotations

import asyncio
import contextlib


class OwnerlessLock:
    """For one session."""

    def __init__(self) -> None:
        self._taken = False
        self._freed = asyncio.Event()
        self._freed.set()
        self.by_server = False
        """Who took it last; only the books want to know."""

    @property
    def taken(self) -> bool:
        return self._taken

    def try_lock(self) -> bool:
        """Take it at once or not at all; whoever holds it gets False like everybody else."""
        if self._taken:
            return False
        self._take(by_server=False)
        return True

    async def lock(self, *, timeout_s: float) -> bool:
        """The server's turn: False when it did not come in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._taken:
                    await self._freed.wait()
                self._take(by_server=True)
                return True
        return False

    def unlock(self) -> bool:
        """Free it, whoever took it; False when it was free."""
        was_taken, self._taken = self._taken, False
        self._freed.set()
        return was_taken

    def _take(self, *, by_server: bool) -> None:
        self._taken, self.by_server = True, by_server
        self._freed.clear()
