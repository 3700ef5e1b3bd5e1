"""What goes wrong with one job: no other's business, and said now and then, though found every second."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.errors import JobNotFound, StoreError

T = TypeVar("T")

log = get_logger()


class Complaints:
    """One for each kind of complaint."""

    def __init__(self, clock: Clock, *, every_ns: int) -> None:
        """`every_ns`: on the monotonic clock."""
        self._clock = clock
        self._every_ns = every_ns
        self._said_ns: dict[str, int] = {}
        """The oldest first."""

    def due(self, job_id: str) -> bool:
        """Whether it is to be said of this job now; it counts as said then."""
        now_ns = self._clock.monotonic_ns()
        while self._said_ns:
            oldest = next(iter(self._said_ns))
            if now_ns - self._said_ns[oldest] < self._every_ns:
                break
            del self._said_ns[oldest]
        if job_id in self._said_ns:
            return False
        self._said_ns[job_id] = now_ns
        return True

    def settled(self, job_id: str) -> None:
        """All is well again: the next time it is said at once."""
        self._said_ns.pop(job_id, None)

    async def alone(self, event: str, job_id: str, work: Awaitable[T]) -> T | None:
        """`work` on one job; None when it failed, which is no other job's business and is said as `event`.

        Raises:
            StoreError: nothing can be noted of any job.
        """
        try:
            return await work
        except StoreError:
            raise
        except JobNotFound:  # deleted since it was listed
            return None
        except Exception:
            if self.due(job_id):
                log.exception(event, job_id=job_id)
            return None
