"""Jobs that wait for a place: a line for each client, clients in rotation. Does no I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from offloader.errors import CapacityReached
from offloader.models import Job


@dataclass(eq=False, slots=True)
class Waiter:
    """One job."""

    job: Job
    until_s: float
    """How long it may wait, by the loop's clock."""
    outcome: asyncio.Future[None]
    """Done when it is in; an exception when it will not be."""
    refusal: CapacityReached
    """Why it is not in yet."""


class WaitingLine:
    """A client with a hundred jobs delays another one by one of them."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Waiter]] = {}
        """By client, in the order of their turns; never an empty line."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[Waiter]:
        """Everybody; who leaves meanwhile does no harm."""
        return iter([waiter for line in self._lines.values() for waiter in line])

    def count(self, client_id: str) -> int:
        """How many of this client wait."""
        return len(self._lines.get(client_id, ()))

    def heads(self) -> list[Waiter]:
        """Whose turn it is, client by client."""
        return [line[0] for line in self._lines.values()]

    def of_call(self, job: Job) -> list[Waiter]:
        """Who waits for a place in the same call."""
        line = self._lines.get(job.client_id, ())
        return [waiter for waiter in line if waiter.job.call_key == job.call_key]

    def add(self, waiter: Waiter) -> None:
        """To the end of its client's line."""
        self._lines.setdefault(waiter.job.client_id, deque()).append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """It waits no more. Idempotent."""
        line = self._lines.get(waiter.job.client_id, deque())
        if waiter in line:
            line.remove(waiter)
            if not line:
                del self._lines[waiter.job.client_id]

    def served(self, waiter: Waiter) -> None:
        """It is in: its client is the last one in the rotation now."""
        self.remove(waiter)
        line = self._lines.pop(waiter.job.client_id, None)
        if line is not None:
            self._lines[waiter.job.client_id] = line
