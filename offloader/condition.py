"""How the service is: whether it can take jobs, and for how many it has room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from clientauth.service import Identity
from offloader.admission import AdmissionPolicy, calls_in_progress
from offloader.backends.base import Backend
from offloader.entrance import Entrance
from offloader.errors import BackendError, StoreError
from offloader.models import Job
from offloader.ownership import owns
from offloader.store.base import JobStore

_PATIENCE_S: Final = 3.0
"""Monitors give up after some seconds; whatever takes longer is as good as broken."""
_ADMIN: Final = Identity("", admin=True)


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
    least_disk_bytes: int | None = None
    """Free where there is least, if jobs run on several hosts, each of which has to keep that free."""

    taken: int | None = None
    """Places that are not free for a client, others' calls among them, which it is not shown; None: those of
    the calls in progress."""

    @property
    def free(self) -> int:
        """Calls that would be admitted now, as far as places go."""
        taken = self.calls_in_progress if self.taken is None else self.taken
        return 0 if self.draining else max(self.limit - taken, 0)

    def document(self) -> dict[str, int | bool | None]:
        """As it is shown."""
        document = asdict(self) | {"free": self.free}
        del document["taken"]
        return document

    @property
    def tightest_disk_bytes(self) -> int | None:
        """Room on the one disk, or on that of several which is the first to be full; None: unknown."""
        return self.free_disk_bytes if self.least_disk_bytes is None else self.least_disk_bytes


class Condition:
    """Looks when asked, and keeps nothing."""

    def __init__(self, *, store: JobStore, backend: Backend, entrance: Entrance) -> None:
        self._store = store
        self._backend = backend
        self._entrance = entrance

    async def capacity(self, client: Identity = _ADMIN) -> Capacity:
        """Everything for the admin. A client is shown its own jobs, what it may have of the places, and
        nothing of the host. Raises StoreError."""
        live = await self._store.live()
        policy = await self._entrance.shown_policy()
        if not client.admin:
            return self._share(client, live, policy)
        try:
            free_disk_bytes = await self._backend.free_disk_bytes()
            places = await self._backend.places()
        except BackendError:
            free_disk_bytes = places = None
        return Capacity(
            limit=policy.max_calls,
            calls_in_progress=calls_in_progress(live, post_call_slots=policy.post_call_slots),
            jobs=len(live),
            draining=self._entrance.closed,
            free_disk_bytes=free_disk_bytes,
            min_free_disk_bytes=policy.min_free_disk_bytes,
            least_disk_bytes=places.least_disk_bytes if places is not None else None,
        )

    def _share(self, client: Identity, live: Sequence[Job], policy: AdmissionPolicy) -> Capacity:
        slots = policy.post_call_slots
        own = [job for job in live if owns(client, job)]
        calls = calls_in_progress(own, post_call_slots=slots)
        most = self._entrance.client_limits.slots or policy.max_calls
        limit = min(most, policy.max_calls)
        free = max(policy.max_calls - calls_in_progress(live, post_call_slots=slots), 0)
        return Capacity(
            limit=limit,
            calls_in_progress=calls,
            jobs=len(own),
            draining=self._entrance.closed,
            free_disk_bytes=None,
            min_free_disk_bytes=None,
            taken=max(calls, limit - free),
        )

    async def obstacles(self) -> list[str]:
        """Why no job can be taken now, one sentence each; empty when the service is ready."""
        found = ["the service is draining"] if self._entrance.closed else []
        looks = (_reason("the database", self._store.live), self.backend_fault())
        return found + [reason for reason in await asyncio.gather(*looks) if reason]

    async def backend_fault(self) -> str:
        """Why the backend could not start a job now, a sentence; empty when it could."""
        return await _reason(f"the {self._backend.name} backend", self._backend.check_usable)

    async def workers(self) -> Mapping[str, bool]:
        """By name, whether each host that runs jobs can be reached; empty where the backend knows of none."""
        try:
            return await self._backend.workers() or {}
        except BackendError:
            return {}


async def _reason(what: str, look: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await look()
    except TimeoutError:
        return f"{what} does not answer"
    except (StoreError, BackendError) as error:
        return f"{what} cannot be used: {error}"
    return ""
