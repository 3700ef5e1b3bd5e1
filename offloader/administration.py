"""What the admin asks of a running service: how it is, whether it may be restarted, to drain and to go on.

Knows no HTTP. Draining lives in memory: a service that starts again takes jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.admission import calls_in_progress
from offloader.backends.base import Backend
from offloader.entrance import Entrance
from offloader.models import Job, Publication
from offloader.outbox_steps import entry_of
from offloader.store.base import JobStore

log = get_logger()


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One look."""

    backend: str
    calls_in_progress: int
    max_calls: int
    jobs: Sequence[Job]
    """Live ones, oldest first."""
    waiting: int
    """Results that are still tried to be published."""
    oldest_waiting: timedelta
    given_up: int
    """Results that are not tried any more and wait for somebody."""
    draining: bool
    safe_to_restart: bool
    reason: str
    """Why not, and until when at the latest; empty when it is safe."""


class Administration:
    """One per process."""

    def __init__(
        self, *, store: JobStore, backend: Backend, entrance: Entrance, clock: Clock
    ) -> None:
        self._store = store
        self._backend = backend
        self._entrance = entrance
        self._clock = clock

    async def status(self) -> ServiceStatus:
        """Raises StoreError."""
        live = await self._store.live()
        unpublished = await self._store.unpublished()
        waiting = [
            job for job in unpublished if entry_of(job).publication is not Publication.UNPUBLISHABLE
        ]
        policy = await self._entrance.shown_policy()
        reason = _obstacle(live) if self._backend.ends_with_service else ""
        return ServiceStatus(
            backend=self._backend.name,
            calls_in_progress=calls_in_progress(live, post_call_slots=policy.post_call_slots),
            max_calls=policy.max_calls,
            jobs=live,
            waiting=len(waiting),
            oldest_waiting=_oldest(waiting, self._clock.utc_now()),
            given_up=len(unpublished) - len(waiting),
            draining=self._entrance.closed,
            safe_to_restart=not reason,
            reason=reason,
        )

    def drain(self) -> None:
        """Refuse new jobs, also those that wait for a place. Idempotent."""
        if not self._entrance.closed:
            log.info("service.drained")
        self._entrance.close()

    def undrain(self) -> bool:
        """Take jobs again; False when the service is ending."""
        reopened = self._entrance.reopen()
        if reopened:
            log.info("service.undrained")
        return reopened


def _obstacle(live: Sequence[Job]) -> str:
    """These jobs would be told to stop by a restart; the calls they are in would lose their recording."""
    if not live:
        return ""
    latest = max(job.deadline_at for job in live)
    jobs = "1 job is" if len(live) == 1 else f"{len(live)} jobs are"
    return f"{jobs} running, at the latest until {latest:%Y-%m-%d %H:%M} UTC"


def _oldest(waiting: Sequence[Job], now: datetime) -> timedelta:
    moments = [job.stopped_at for job in waiting if job.stopped_at]
    return now - min(moments) if moments else timedelta(0)
