"""How often something is said again that is found anew every second."""

from __future__ import annotations

from foundation.clock import Clock


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
