"""The only retry loop of the product."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often and how long to wait between attempts.

    The wait before attempt n (n ≥ 2) is `first_wait_s × growth^(n-2)`, at most `max_wait_s`, plus or
    minus `jitter` of itself, so that many jobs that failed together do not come back together.
    """

    attempts: int
    first_wait_s: float
    growth: float = 2.0
    max_wait_s: float = 60.0
    jitter: float = 0.2

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after the given number of failures (≥ 1)."""
        wait = min(self.first_wait_s * self.growth ** (failures - 1), self.max_wait_s)
        return wait * (1 + random.uniform(-self.jitter, self.jitter))


async def retry(
    attempt: Callable[[], Awaitable[T]],
    *,
    backoff: Backoff,
    retryable: Callable[[Exception], bool],
    on_failure: Callable[[Exception, int], None] | None = None,
) -> T:
    """Call `attempt` until it succeeds, fails for good, or attempts run out.

    `on_failure(error, failures)` is told of each failure that will be retried. Raises the last error
    of `attempt`. Cancellation passes through at once.
    """
    failures = 0
    while True:
        try:
            return await attempt()
        except Exception as error:
            failures += 1
            if failures >= backoff.attempts or not retryable(error):
                raise
            if on_failure is not None:
                on_failure(error, failures)
        await asyncio.sleep(backoff.wait_s(failures))
