"""How the service is: whether it can take jobs, and for how many it has room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from offloader.admission import calls_in_progress
from offloader.backends.base import Backend
from offloader.entrance import Entrance
from offloader.errors import BackendError, StoreError
from offloader.store.base import JobStore

_PATIENCE_S: Final = 3.0
"""Monitors give up after some seconds; whatever takes longer is as good as broken."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Places for calls now."""

    limit: int
    calls_in_progress: int
    jobs: int
    """Live ones: a recording and its transcription are two jobs of one call, and post-call work counts."""
    draining: bool
    free_disk_bytes: int | None
    """None: unknown."""
    min_free_disk_bytes: int | None
    """What has to stay free; None: not looked at."""

    @property
    def free(self) -> int:
        """Calls that would be admitted now, as far as places go."""
        return 0 if self.draining else max(self.limit - self.calls_in_progress, 0)


class Condition:
    """Looks when asked, and keeps nothing."""

    def __init__(self, *, store: JobStore, backend: Backend, entrance: Entrance) -> None:
        self._store = store
        self._backend = backend
        self._entrance = entrance

    async def capacity(self) -> Capacity:
        """Raises StoreError."""
        policy = self._entrance.policy
        live = await self._store.live()
        try:
            free_disk_bytes = await self._backend.free_disk_bytes()
        except BackendError:
            free_disk_bytes = None
        return Capacity(
            limit=policy.max_calls,
            calls_in_progress=calls_in_progress(live, post_call_slots=policy.post_call_slots),
            jobs=len(live),
            draining=self._entrance.closed,
            free_disk_bytes=free_disk_bytes,
            min_free_disk_bytes=policy.min_free_disk_bytes,
        )

    async def obstacles(self) -> list[str]:
        """Why no job can be taken now, one sentence each; empty when the service is ready."""
        found = ["the service is draining"] if self._entrance.closed else []
        looks = (
            _reason("the database", self._store.live),
            _reason(f"the {self._backend.name} backend", self._backend.check_usable),
        )
        return found + [reason for reason in await asyncio.gather(*looks) if reason]


async def _reason(what: str, look: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await look()
    except TimeoutError:
        return f"{what} does not answer"
    except (StoreError, BackendError) as error:
        return f"{what} cannot be used: {error}"
    return ""
