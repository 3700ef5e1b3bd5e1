"""The launch board: every launched job is granted to exactly one worker.

In the memory of the replica that launches. A replica that is gone grants nothing more, and what it granted is
found on its worker. Lives on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from offloader.models import Workload

_REMEMBERED_S: Final = 600.0
_MOST_REMEMBERED: Final = 10_000


class Claim(Enum):
    """The answer to a worker that wants a job."""

    GRANTED = "granted"
    TAKEN = "taken"
    """Another worker has it."""
    GONE = "gone"
    """Nobody launches it any more, or never did here."""


@dataclass(slots=True)
class Launch:
    """One job on the board."""

    worker: str = ""
    """Who has it; empty: nobody yet."""
    url: str = ""
    """Of that worker's door."""
    outcome: Workload | str | None = None
    """The workload of the worker's own backend, or why there is none."""
    closed_s: float | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def claimed(self, *, within_s: float) -> bool:
        """Whether a worker took it in time."""
        return await self._until(lambda: bool(self.worker), within_s)

    async def settled(self, *, within_s: float) -> bool:
        """Whether its worker told the outcome in time."""
        return await self._until(lambda: self.outcome is not None, within_s)

    def change(self) -> None:
        """Wake whoever waits for it."""
        self._changed.set()

    async def _until(self, holds: Callable[[], bool], within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return holds()
        return True


class LaunchBoard:
    """One per replica."""

    def __init__(self) -> None:
        self._launches: dict[str, Launch] = {}

    @contextmanager
    def open(self, job_id: str) -> Iterator[Launch]:
        """While the block runs, a worker may take the job; afterwards only the one that did is known."""
        self._forget_old()
        launch = Launch()
        self._launches[job_id] = launch
        try:
            yield launch
        finally:
            launch.closed_s = asyncio.get_running_loop().time()

    def claim(self, job_id: str, *, worker: str, url: str) -> Claim:
        """A worker wants the job. The one that has it may ask again, for its answer may have been lost; not
        once the launch is over: a message that the broker gives out again must not run a job again."""
        launch = self._launches.get(job_id)
        if launch is None:
            return Claim.GONE
        if launch.worker and launch.url != url:
            return Claim.TAKEN
        if launch.closed_s is not None or launch.outcome is not None:
            return Claim.GONE
        launch.worker, launch.url = worker, url
        launch.change()
        return Claim.GRANTED

    def settle(self, job_id: str, outcome: Workload | str) -> bool:
        """Its worker tells what became of the launch: the first word counts. False: nobody knows of it."""
        launch = self._launches.get(job_id)
        if launch is None or not launch.worker:
            return False
        if launch.outcome is None:
            launch.outcome = outcome
            launch.change()
        return True

    def outcome(self, job_id: str) -> Workload | str | None:
        """What its worker told, also after `open` ended; None: nothing yet, or it is too long ago."""
        launch = self._launches.get(job_id)
        return None if launch is None else launch.outcome

    def _forget_old(self) -> None:
        before_s = asyncio.get_running_loop().time() - _REMEMBERED_S
        over = len(self._launches) - _MOST_REMEMBERED
        closed = [
            (known.closed_s, job_id)
            for job_id, known in self._launches.items()
            if known.closed_s is not None
        ]
        for closed_s, job_id in closed:  # in the order in which they were opened
            if closed_s >= before_s and over <= 0:
                break
            del self._launches[job_id]
            over -= 1
