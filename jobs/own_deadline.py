"""A job's own end at its longest duration, for when no service is there to stop or to kill it.

The service keeps deadlines (docs/job-contract.md 3). While none runs, a call that nobody ends would be
recorded without end, and a job that hangs in its last upload would hold its resources for ever. So the job
ends itself, a little later than a service would have done it: politely, and after the grace by force.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from foundation.logs import get_logger
from foundation.shutdown import Shutdown
from jobs.settings import JobSettings

LATER_S: Final = 60.0
"""The service counts from the request, the job from its own start; and the service goes first."""

log = get_logger()


def arm_own_kill(settings: JobSettings) -> None:
    """Have the kernel end this process by SIGALRM when the whole grace has passed as well, whatever it does
    then: also one whose event loop hangs. Nothing when no longest duration is known."""
    if settings.max_duration_s:
        left_s = settings.max_duration_s + LATER_S + settings.stop_grace_s + LATER_S
        signal.setitimer(signal.ITIMER_REAL, left_s)


@contextmanager
def own_deadline(settings: JobSettings, shutdown: Shutdown) -> Iterator[None]:
    """Within the block: ask for a polite end when the longest duration has passed, unless somebody has."""
    if not settings.max_duration_s:
        yield
        return

    def end() -> None:
        if not shutdown.requested.is_set():
            log.warning("deadline.passed", max_duration_s=settings.max_duration_s)
            shutdown.request()

    loop = asyncio.get_running_loop()
    timer = loop.call_later(settings.max_duration_s + LATER_S, end)
    try:
        yield
    finally:
        timer.cancel()
