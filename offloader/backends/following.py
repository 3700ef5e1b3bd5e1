"""Follows the log of a workload on a backend that can only read it from its beginning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from offloader.backends.base import Backend, Phase
from offloader.models import Workload

LOOK_EVERY_S: Final = 1.0


async def follow_by_reading(backend: Backend, workload: Workload) -> AsyncIterator[bytes]:
    """See `Backend.follow`: reads the log again and again and gives out what is new.

    Exact as long as a log only grows; of one that became shorter the present content is given again.
    Whether the workload has ended is asked before each reading, so that its last lines are not missed.
    """
    given_bytes = 0
    while True:
        phase = (await backend.poll(workload)).phase
        seen_bytes = 0
        async for chunk in backend.logs(workload):
            seen_bytes += len(chunk)
            if seen_bytes > given_bytes:
                yield chunk[max(len(chunk) - (seen_bytes - given_bytes), 0) :]
                given_bytes = seen_bytes
        given_bytes = min(given_bytes, seen_bytes)
        if phase in (Phase.EXITED, Phase.LOST):
            return
        await asyncio.sleep(LOOK_EVERY_S)
