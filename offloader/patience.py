"""Work for which a round waits only so long: a host that does not answer delays no other's jobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine


class Patience:
    """Owns what goes on after `run` has returned, until `aclose`."""

    def __init__(self, wait_s: float) -> None:
        """`wait_s`: how long `run` waits."""
        self._wait_s = wait_s
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Something goes on."""
        return any(not task.done() for task in self._tasks)

    async def run(self, work: Coroutine[None, None, None]) -> None:
        """Do `work`; return when it is done, or without it after a while. What it raises is raised here; of
        work that took longer, by the next `run`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        await asyncio.wait({task}, timeout=self._wait_s)
        done = {task for task in self._tasks if task.done()}
        self._tasks -= done
        failures = [
            error
            for task in done
            if not task.cancelled() and (error := task.exception()) is not None
        ]
        if failures:
            raise failures[0]

    async def aclose(self) -> None:
        """Cancel what goes on, and wait for its end. Idempotent."""
        while self._tasks:
            task = self._tasks.pop()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
