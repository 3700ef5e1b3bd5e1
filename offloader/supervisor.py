"""Watches the jobs: what the backend sees becomes their state; deadlines, retention, adoption, shutdown.

One look at every live job per second (of thousands, at some: `looks`). A round waits only a moment for hosts
that do not answer: what is known of the others' jobs is not to depend on them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.backends.base import Backend, Phase
from offloader.complaints import Complaints
from offloader.deadlines import Deadlines
from offloader.errors import BackendError
from offloader.failure_log import in_its_own_words
from offloader.failures import failure_fields, failure_of
from offloader.lifecycle import observed, told_to_stop
from offloader.log_watch import LogWatch
from offloader.looks import Looks, look_at_all
from offloader.lost_jobs import LostJobs
from offloader.models import Job, JobState, StopReason
from offloader.outbox import Outbox
from offloader.patience import Patience
from offloader.removal import Removal
from offloader.retranscription import Retranscriber
from offloader.settings import JobsSettings
from offloader.store.base import LEASE_TTL_S, Claim, JobStore, Lease, SecretStore, is_elsewhere
from offloader.unlaunched import Unlaunched
from offloader.upkeep import Upkeep

POLL_INTERVAL_S: Final = 1.0
_DRAIN_POLL_S: Final = 0.25
_FIGURES_EVERY_NS: Final = 5_000_000_000
_COMPLAIN_EVERY_NS: Final = 60_000_000_000
_ROUND_WAITS_S: Final = 3.0
"""For each of its parts."""
_RENEW_EVERY_S: Final = LEASE_TTL_S / 4
_LAST_LOG_S: Final = 2.0
"""For the log of a lost job, whose host may not answer."""
_HURRY_GRACE_S: Final = 10.0
"""What a second signal leaves the jobs: enough to close a file, not to upload it (salvage does that)."""

log = get_logger()


class Supervisor:
    """One per process: `recover` once, then `run` until cancelled; `check` is one round of it."""

    def __init__(
        self,
        *,
        settings: JobsSettings,
        store: JobStore,
        backend: Backend,
        clock: Clock,
        stop_grace_s: float,
        removal: Removal,
        outbox: Outbox,
        lease: Lease | None = None,
        retranscriber: Retranscriber | None = None,
        lost: LostJobs | None = None,
        secrets: SecretStore | None = None,
    ) -> None:
        """`lease`: what this replica is to others on the same database; None: there are none.
        `retranscriber` None: nothing is transcribed again. `lost` None: nothing is copied. `secrets` None: no
        tokens are kept."""
        self._store = store
        self._backend = backend
        self._clock = clock
        self._stop_grace_s = stop_grace_s
        self._lease = lease
        self._lost = lost or LostJobs(backend, None)
        self._draining = False
        self._round = asyncio.Lock()
        self._looking = Patience(_ROUND_WAITS_S)
        self._looked_at: set[str] = set()
        """Jobs of which a look is under way."""
        self._upkeep = Upkeep(
            settings=settings,
            store=store,
            backend=backend,
            clock=clock,
            removal=removal,
            outbox=outbox,
            retranscriber=retranscriber,
            lease=lease,
            secrets=secrets,
        )
        self._keeping = Patience(_ROUND_WAITS_S)
        """Publications and removals: one after another, never two rounds of them at once."""
        self._claimed_ns = clock.monotonic_ns()
        self._unlaunched = Unlaunched(
            store=store,
            backend=backend,
            finish=self._finish,
            is_elsewhere=self._is_elsewhere,
            now=self._now,
        )
        self._adopting = Patience(_ROUND_WAITS_S)
        self._deadlines = Deadlines(clock)
        self._logs = LogWatch(backend=backend, store=store, room_made=self._tell_of_room)
        self._looks = Looks(logs_every_ns=_FIGURES_EVERY_NS)
        self._complaints = Complaints(clock, every_ns=_COMPLAIN_EVERY_NS)
        """About jobs that cannot be looked at: an engine that is down is one event."""
        self._on_room: list[Callable[[], None]] = []

    @property
    def logs(self) -> LogWatch:
        """What live jobs tell."""
        return self._logs

    def retune(self, settings: JobsSettings) -> None:
        """From now on, finished jobs are kept as these say."""
        self._upkeep.retune(settings)

    def on_room(self, observer: Callable[[], None]) -> None:
        """Call `observer` whenever a job has given up its place."""
        self._on_room.append(observer)

    async def run(self) -> None:
        """Watch until cancelled. A round that fails is logged, and the next one comes."""
        renewing = asyncio.create_task(self._renew(), name="lease")
        try:
            while True:
                try:
                    await self.check()
                except Exception:
                    log.exception("supervisor.round_failed")
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            for patience in (self._adopting, self._looking, self._keeping):
                await patience.aclose()

    async def recover(self) -> None:
        """Before the first job is admitted: adopt what an earlier process left.

        Jobs with a stored workload need nothing; those whose launch was not stored are looked for on the
        backend. Where its jobs outlive the service, the rounds do that as soon as it answers: an engine or a
        broker that is away for a while harms no job. Workloads of no job are the sweep's business.

        Raises:
            BackendError: a backend whose jobs end with the service cannot be asked.
        """
        jobs = (await self._mine()).live
        if self._backend.ends_with_service:
            found = await self._backend.adopt()
            for job in jobs:
                await self._unlaunched.settle(job, found)
        else:
            self._unlaunched.add(jobs)
        if jobs:
            log.info("supervisor.adopted", jobs=[job.id for job in jobs])

    async def check(self) -> None:
        """Look at every live job once; now and then, at what has been kept long enough. A round waits for
        the one before: two at once would start the same publication twice."""
        async with self._round:
            await self._check()

    async def _check(self) -> None:
        mine = await self._mine(take=not self._draining)
        await self._take_over(mine)
        await look_at_all(list(filter(self._is_elsewhere, mine.live)), self._lose)
        await self._look_at(mine.live)
        if not self._keeping.busy:
            await self._keeping.run(self._upkeep.round(mine, draining=self._draining))

    async def _renew(self) -> None:
        """Stay the owner of what is ours while a round takes long, which renews it at its beginning."""
        while self._lease is not None:
            await asyncio.sleep(_RENEW_EVERY_S)
            if self._clock.monotonic_ns() - self._claimed_ns < int(_RENEW_EVERY_S * 1e9):
                continue
            try:
                await self._store.claim(self._lease, take=False)
            except Exception:
                log.exception("supervisor.lease_not_renewed")

    async def _lose(self, job: Job) -> None:
        assert self._lease is not None
        try:
            step = await self._lost.host_lost(job, here=self._lease.host, now=self._now())
        except BackendError as error:
            self._tell_of_failed_check(job, error)
            return
        await self._finish(job, step)

    async def _look_at(self, live: Sequence[Job]) -> None:
        # Without a workload its launch is under way.
        here = [job for job in live if job.workload is not None and not self._is_elsewhere(job)]
        chosen, read = self._looks.turn(here, now_ns=self._clock.monotonic_ns())

        async def look(job: Job) -> None:
            try:
                await self._check_job(job, read_log=job.id in read)
                self._complaints.settled(job.id)
            except BackendError as error:
                self._tell_of_failed_check(job, error)
            finally:
                self._looked_at.discard(job.id)
                begun.discard(job.id)  # the next round may begin with it

        new = [job for job in chosen if job.id not in self._looked_at]
        begun = {job.id for job in new}

        async def look_at_new() -> None:
            try:
                await look_at_all(new, look)
            finally:
                self._looked_at -= begun  # also those that it did not come to

        self._looked_at |= begun
        await self._looking.run(look_at_new())

    async def stop(self, job: Job, *, reason: StopReason, grace_s: float | None = None) -> None:
        """Tell a job to end; it is killed after the grace. Repeating it changes nothing.

        Stored first: whoever supervises it next knows that it has to end, and why.
        """
        stopping = await self._store.change(job.id, partial(told_to_stop, reason=reason))
        if stopping.state is JobState.STOPPING and stopping.workload is not None:
            if job.state is not JobState.STOPPING:
                log.info("job.stopping", job_id=job.id, reason=reason.value)
            grace_s = self._stop_grace_s if grace_s is None else grace_s
            await self._backend.stop(stopping.workload, grace_s=grace_s)

    async def drain(self, *, hurry: asyncio.Event) -> None:
        """Stop every job and wait until none is live. `hurry`, set at any time, shortens the grace.

        The caller has closed admission, keeps `run` running, which sees the jobs end, and bounds the wait.
        Does nothing on a backend whose jobs outlive the service.
        """
        if not self._backend.ends_with_service:
            return
        self._draining = True
        while live := (await self._mine(take=False)).live:
            grace_s = _HURRY_GRACE_S if hurry.is_set() else None
            for job in live:
                try:
                    if job.workload is not None:
                        # It may have ended by itself just now.
                        await self._check_job(job, read_log=False)
                    await self.stop(job, reason=StopReason.REQUESTED, grace_s=grace_s)
                except BackendError as error:
                    log.error("job.stop_failed", job_id=job.id, error=str(error))
            await asyncio.sleep(_DRAIN_POLL_S)

    async def _mine(self, *, take: bool = True) -> Claim:
        """What this process watches over: everything, unless there are other replicas."""
        if self._lease is None:
            return Claim(live=await self._store.live(), unpublished=())
        mine = await self._store.claim(self._lease, take=take)
        self._claimed_ns = self._clock.monotonic_ns()
        ids = {job.id for job in mine.live}
        for job_id in {*self._deadlines.known, *self._logs.figures} - ids:
            self._unwatch(job_id)  # another replica's by now
        return mine

    async def _take_over(self, mine: Claim) -> None:
        if mine.taken:
            log.info("supervisor.taken_over", jobs=sorted(mine.taken))
            self._unlaunched.add(job for job in mine.live if job.id in mine.taken)
        if self._unlaunched.waiting and not self._adopting.busy:
            await self._adopting.run(self._unlaunched.look())

    def _is_elsewhere(self, job: Job) -> bool:
        """It ran on another host, which has not been heard of for too long."""
        return is_elsewhere(job, self._lease)

    async def _check_job(self, job: Job, *, read_log: bool) -> None:
        assert job.workload is not None
        observation = await self._backend.poll(job.workload)
        ended = observation.phase in (Phase.EXITED, Phase.LOST)
        if observation.stale and not ended:
            return  # its host is silent, and nothing new is to be had there
        tail = b""
        if observation.phase is Phase.LOST:
            # Its log may be out of reach with it.
            with contextlib.suppress(BackendError, TimeoutError):
                async with asyncio.timeout(_LAST_LOG_S):
                    tail = await self._logs.read(job, ended=True)
        elif read_log or ended:
            tail = await self._logs.read(job, ended=ended)
        figures = self._logs.figures.get(job.id, {})
        if ended:
            observation = await self._lost.end_of(job, observation)
            observation = in_its_own_words(observation, figures=figures, log_tail=tail)
        step = partial(observed, observation=observation, figures=figures, now=self._now())
        if ended:
            await self._finish(job, step)
            return
        seen = job
        if step(job) != job:  # nearly always nothing is new, and then nothing is asked of the store
            seen = await self._store.change(job.id, step)
        if seen.detail and seen.detail != job.detail:
            log.warning("job.degraded", job_id=job.id, detail=seen.detail)
        if seen.state is JobState.STOPPING:
            # The wish is stored before it is sent: it may not have arrived.
            await self._backend.stop(job.workload, grace_s=self._stop_grace_s)
        elif self._deadlines.passed(job):
            await self.stop(seen, reason=StopReason.MAX_DURATION)

    def _tell_of_failed_check(self, job: Job, error: BackendError) -> None:
        if self._complaints.due(job.id):
            log.error("job.check_failed", job_id=job.id, error=str(error))

    async def _finish(self, job: Job, step: Callable[[Job], Job]) -> None:
        was_live = False

        def last_step(present: Job) -> Job:
            nonlocal was_live
            was_live = present.live
            return step(present)

        finished = await self._store.change(job.id, last_step)
        self._unwatch(job.id)
        if not was_live:
            return  # told already: a round and a drain, or another replica, may see the same end
        assert finished.stop_reason is not None
        failure = failure_of(finished)
        log.info(
            "job.finished",
            job_id=job.id,
            type=job.spec.type.value,
            stop_reason=finished.stop_reason.value,
            exit_code=finished.exit_code,
            unpublished=finished.unpublished,
            detail=finished.detail,
            **({} if failure is None else failure_fields(failure)),
        )
        self._tell_of_room()

    def _unwatch(self, job_id: str) -> None:
        self._logs.forget(job_id)
        self._deadlines.forget(job_id)
        self._complaints.settled(job_id)

    def _tell_of_room(self) -> None:
        for observer in self._on_room:
            observer()

    def _now(self) -> datetime:
        return self._clock.utc_now()
