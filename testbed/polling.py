"""Looking again and again at what tells nobody of its changes: files of jobs, routes of servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

Found = TypeVar("Found")
_POLL_S: Final = 0.1


async def until(
    look: Callable[[], Awaitable[Found | None]],
    what: str,
    *,
    limit_s: float,
    every_s: float = _POLL_S,
    failure: type[Exception] = TimeoutError,
) -> Found:
    """The first thing of truth that `look` finds; what `look` raises ends it.

    Raises:
        failure: nothing within `limit_s`; its text says that of `what`.
    """
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            while True:
                if found := await look():
                    return found
                await asyncio.sleep(every_s)
    except TimeoutError:
        if not limit.expired():
            raise  # of what was asked, which has limits of its own
        raise failure(f"{what}: not within {limit_s:g} s") from None
