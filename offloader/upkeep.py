"""What becomes of ended jobs: published, transcribed again, and removed when kept long enough."""

from __future__ import annotations

from typing import Final

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.backends.base import Backend
from offloader.errors import BackendError
from offloader.models import Job
from offloader.orphans import sweep_orphans
from offloader.outbox import Outbox
from offloader.removal import Removal
from offloader.retention import Retention
from offloader.retranscription import Retranscriber
from offloader.settings import JobsSettings
from offloader.spent_tokens import erase_spent_tokens
from offloader.store.base import Claim, JobStore, Lease, SecretStore, is_elsewhere

_SWEEP_EVERY_NS: Final = 60_000_000_000
_ORPHANS_EVERY_NS: Final = 3600_000_000_000

log = get_logger()


class Upkeep:
    """One per supervisor, which sees to it that there are never two rounds at once."""

    def __init__(
        self,
        *,
        settings: JobsSettings,
        store: JobStore,
        backend: Backend,
        clock: Clock,
        removal: Removal,
        outbox: Outbox,
        retranscriber: Retranscriber | None,
        lease: Lease | None,
        secrets: SecretStore | None = None,
    ) -> None:
        """`secrets` None: no tokens are kept."""
        self._settings = settings
        self._store = store
        self._backend = backend
        self._clock = clock
        self._retention = Retention(
            settings=settings,
            store=store,
            backend=backend,
            clock=clock,
            removal=removal,
            lease=lease,
        )
        self._outbox = outbox
        self._retranscriber = retranscriber
        self._lease = lease
        self._secrets = secrets
        self._swept_ns: int | None = None
        self._orphans_ns: int | None = None

    def retune(self, settings: JobsSettings) -> None:
        """From now on, jobs are kept as these say."""
        self._settings = settings
        self._retention.retune(settings)

    async def round(self, mine: Claim, *, draining: bool) -> None:
        """Publish and transcribe again what waits for it in `mine`; now and then, remove what is old."""
        await self._outbox.check(mine.unpublished if self._lease else None)
        if self._retranscriber is not None:
            near: list[Job] = []
            for job in mine.retranscribing:
                if is_elsewhere(job, self._lease):
                    await self._retranscriber.host_lost(job)
                else:
                    near.append(job)
            await self._retranscriber.check(near if self._lease else None, start=not draining)
        now_ns = self._clock.monotonic_ns()
        if self._swept_ns is None or now_ns - self._swept_ns >= _SWEEP_EVERY_NS:
            self._swept_ns = now_ns
            await self._retention.sweep()
            if self._secrets is not None:
                await erase_spent_tokens(store=self._store, secrets=self._secrets)
        if self._orphans_ns is None or now_ns - self._orphans_ns >= _ORPHANS_EVERY_NS:
            self._orphans_ns = now_ns
            try:
                await sweep_orphans(
                    backend=self._backend,
                    store=self._store,
                    kept_for=self._settings.failed_jobs_retention,
                    now=self._clock.utc_now(),
                )
            except BackendError as error:
                log.warning("orphans.not_looked_for", error=str(error))
