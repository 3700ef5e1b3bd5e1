"""Keeps the copy of a job's directory as new as the store allows, while the job works in it.

A lost host costs what was recorded since the last round. The store never holds a job up: while it cannot be
reached the job goes on, and what it missed is copied afterwards, piece by piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from foundation.clock import Clock, SystemClock
from foundation.copies.journal import key_of, numbers_of
from foundation.copies.stores import CopyStore, StoreError
from foundation.logs import get_logger
from jobs.copies.changes import DirectoryChanges

INTERVAL_S: Final = 5.0
_MOST_BYTES: Final = 8 << 20
"""Of one object, so also of memory."""
_PUT_TIMEOUT_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 60.0
_ASK_EVERY: Final = 6
"""Rounds."""


class Mirror:
    """Of one job's directory. `run` in a task of the owner; `copy_now` at any time."""

    def __init__(
        self,
        store: CopyStore,
        directory: Path,
        *,
        is_copied: Callable[[str], bool],
        stays: frozenset[str] = frozenset(),
        clock: Clock | None = None,
    ) -> None:
        """`is_copied` and `stays`: see DirectoryChanges."""
        self._store = store
        self._job_id = directory.name
        self._directory = directory
        self._changes = DirectoryChanges(directory, is_copied=is_copied, stays=stays)
        self._clock = clock or SystemClock()
        self._number: int | None = None
        """Of the newest object that may be there; None: not known yet."""
        self._confirmed = 0
        """Of the newest object that surely is."""
        self._busy = asyncio.Lock()
        self._complete_ns = self._clock.monotonic_ns()
        self._log = get_logger(component="copies")
        self.failures = 0
        self.copied_bytes = 0

    @property
    def behind_s(self) -> float:
        """Since when the copy is not complete: so much would be lost with the host now."""
        return (self._clock.monotonic_ns() - self._complete_ns) / 1e9

    @property
    def never_wrote(self) -> bool:
        """There is no object of ours, not even one of which nobody knows."""
        return not self._number

    async def run(self, *, given_up: Callable[[], Awaitable[bool]] | None = None) -> None:
        """Copy every few seconds until cancelled, or `given_up`, which is asked now and then."""
        pause_s, rounds = INTERVAL_S, 0
        while True:
            await asyncio.sleep(pause_s)
            rounds += 1
            try:
                if given_up is not None and not rounds % _ASK_EVERY and await given_up():
                    self._log.warning("copy.taken_over")
                    return
                await self.copy_now()
                pause_s = INTERVAL_S
            except Exception as error:  # noqa: BLE001 - whatever becomes of the copy, the job goes on
                self.failures += 1
                reason = str(error) if isinstance(error, StoreError) else type(error).__name__
                self._log.warning("copy.failed", reason=reason, behind_s=round(self.behind_s))
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def copy_now(self) -> None:
        """Bring the copy up to this moment.

        Raises:
            StoreError: the store refuses, or the directory cannot be read; another time goes on from there.
        """
        async with self._busy:
            began_ns = self._clock.monotonic_ns()
            if self._number is None:
                there = numbers_of(await self._store.names(self._job_id))
                self._number = self._confirmed = there[-1] if there else 0
            while await self._copy_some(self._number + 1):
                pass
            self._complete_ns = began_ns

    async def _copy_some(self, number: int) -> bool:
        """Write what is new as the next object; was that not all?"""
        try:
            entry, more = await asyncio.to_thread(self._changes.next, most_bytes=_MOST_BYTES)
        except OSError as error:
            raise StoreError(f"{self._directory}: {error.strerror}") from error
        if entry is None:
            return False
        entry = replace(entry, previous=self._confirmed)
        data = await asyncio.to_thread(entry.encode)
        self._number = number  # also of an object that may still come to be
        try:
            async with asyncio.timeout(_PUT_TIMEOUT_S):
                await self._store.put(key_of(self._job_id, number), data)
        except TimeoutError:
            raise StoreError(f"no answer within {_PUT_TIMEOUT_S:g} s") from None
        self._confirmed = number
        self.copied_bytes += len(data)
        self._changes.done()
        return more
