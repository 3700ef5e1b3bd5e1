"""Watches the jobs: what the backend sees becomes their state; deadlines, retention, adoption, shutdown.

One task, one look at every live job per second. The deadline is computed from the store, so it holds
over restarts; within a process it then runs on the monotonic clock, so a wall clock that jumps neither
kills a job nor lets it run on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.backends.base import Backend, Phase
from offloader.errors import BackendError
from offloader.figures import TAIL_BYTES, newest_figures, tells_that_the_call_is_over
from offloader.lifecycle import call_over, host_lost, launched, not_started, observed, told_to_stop
from offloader.models import Job, JobState, Publication, StopReason, Workload
from offloader.orphans import sweep_orphans
from offloader.outbox import Outbox, entry_of
from offloader.settings import JobsSettings
from offloader.store.base import Claim, JobStore, Lease

POLL_INTERVAL_S: Final = 1.0
_FIGURES_EVERY_NS: Final = 5_000_000_000
_COMPLAIN_EVERY_NS: Final = 60_000_000_000
_RETENTION_EVERY_NS: Final = 60_000_000_000
_ORPHANS_EVERY_NS: Final = 3600_000_000_000
_HOST_MAY_RETURN: Final = timedelta(days=7)
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
        forget: Callable[[Job], Awaitable[None]],
        outbox: Outbox,
        lease: Lease | None = None,
    ) -> None:
        """`lease`: what this replica is to others on the same database; None: there are none."""
        self._settings = settings
        self._store = store
        self._backend = backend
        self._clock = clock
        self._stop_grace_s = stop_grace_s
        self._forget = forget
        self._outbox = outbox
        self._lease = lease
        self._draining = False
        self._deadline_ns: dict[str, int] = {}
        self._figures: dict[str, Mapping[str, float]] = {}
        self._figures_read_ns: dict[str, int] = {}
        self._check_failed_ns: dict[str, int] = {}
        """When a job that cannot be looked at was last complained about."""
        self._retention_ns: int | None = None
        self._orphans_ns: int | None = None
        self._on_finished: list[Callable[[Job], None]] = []
        self._on_room: list[Callable[[], None]] = []

    @property
    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """The newest metrics of every live job that has reported any, by job ID."""
        return self._figures

    def on_finished(self, observer: Callable[[Job], None]) -> None:
        """Call `observer` with each job that finishes."""
        self._on_finished.append(observer)

    def on_room(self, observer: Callable[[], None]) -> None:
        """Call `observer` whenever a job has given up its place."""
        self._on_room.append(observer)

    async def run(self) -> None:
        """Watch until cancelled. A round that fails is logged, and the next one comes."""
        while True:
            try:
                await self.check()
            except Exception:
                log.exception("supervisor.round_failed")
            await asyncio.sleep(POLL_INTERVAL_S)

    async def recover(self) -> None:
        """Before the first job is admitted: adopt what an earlier process left.

        Jobs with a stored workload need nothing; those whose launch was not stored are looked for on the
        backend. Workloads of no job are the sweep's business.
        """
        found = await self._backend.adopt()
        jobs = (await self._mine()).live
        await self._settle_pending(jobs, found)
        if jobs:
            log.info("supervisor.adopted", jobs=[job.id for job in jobs])

    async def check(self) -> None:
        """Look at every live job once; now and then, at what has been kept long enough."""
        mine = await self._mine(take=not self._draining)
        if mine.taken:
            await self._take_over(mine)
        for job in mine.live:
            if self._is_elsewhere(job):
                await self._finish(job, partial(host_lost, now=self._now()))
                continue
            if job.workload is None:
                continue  # its launch is under way
            try:
                await self._check_job(job)
                self._check_failed_ns.pop(job.id, None)
            except BackendError as error:
                self._tell_of_failed_check(job, error)
        await self._outbox.check(mine.unpublished if self._lease else None)
        now_ns = self._clock.monotonic_ns()
        if self._retention_ns is None or now_ns - self._retention_ns >= _RETENTION_EVERY_NS:
            self._retention_ns = now_ns
            await self._sweep()
        if self._orphans_ns is None or now_ns - self._orphans_ns >= _ORPHANS_EVERY_NS:
            self._orphans_ns = now_ns
            await sweep_orphans(
                backend=self._backend,
                store=self._store,
                kept_for=self._settings.failed_jobs_retention,
                now=self._now(),
            )

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
                        await self._check_job(job)  # it may have ended by itself just now
                    await self.stop(job, reason=StopReason.REQUESTED, grace_s=grace_s)
                except BackendError as error:
                    log.error("job.stop_failed", job_id=job.id, error=str(error))
            await asyncio.sleep(POLL_INTERVAL_S / 4)

    async def _mine(self, *, take: bool = True) -> Claim:
        """What this process watches over: everything, unless there are other replicas."""
        if self._lease is None:
            return Claim(live=await self._store.live(), unpublished=())
        mine = await self._store.claim(self._lease, take=take)
        ids = {job.id for job in mine.live}
        for job_id in [job_id for job_id in self._figures_read_ns if job_id not in ids]:
            self._unwatch(job_id)  # another replica's by now
        return mine

    async def _take_over(self, mine: Claim) -> None:
        """Jobs of a replica that is gone; the launch of some may not have been stored."""
        log.info("supervisor.taken_over", jobs=sorted(mine.taken))
        taken = [job.id for job in mine.live if job.id in mine.taken and job.workload is None]
        if taken:
            found = await self._backend.adopt()
            # Looked at again: their owner may only have been slow.
            pending = [job for job_id in taken if (job := await self._store.get(job_id))]
            await self._settle_pending(pending, found)

    async def _settle_pending(self, jobs: Sequence[Job], found: Mapping[str, Workload]) -> None:
        """Nobody launches these any more: what was launched is on the backend."""
        for job in jobs:
            if job.state is not JobState.PENDING or self._is_elsewhere(job):
                continue
            if job.id in found:
                await self._store.change(job.id, partial(launched, workload=found[job.id]))
            else:
                detail = "the service ended before it could launch the job"
                await self._finish(job, partial(not_started, detail=detail, now=self._now()))

    def _is_elsewhere(self, job: Job) -> bool:
        """It ran on another host, which has not been heard of for too long."""
        return self._lease is not None and job.host not in ("", self._lease.host)

    async def _check_job(self, job: Job) -> None:
        assert job.workload is not None
        observation = await self._backend.poll(job.workload)
        ended = observation.phase in (Phase.EXITED, Phase.LOST)
        await self._read_figures(job, now_or_never=ended)
        figures = self._figures.get(job.id, {})
        step = partial(observed, observation=observation, figures=figures, now=self._now())
        if ended:
            await self._finish(job, step)
            return
        seen = await self._store.change(job.id, step)
        if seen.detail and seen.detail != job.detail:
            log.warning("job.degraded", job_id=job.id, detail=seen.detail)
        if seen.state is JobState.STOPPING:
            # The wish is stored before it is sent: it may not have arrived.
            await self._backend.stop(job.workload, grace_s=self._stop_grace_s)
        elif self._clock.monotonic_ns() >= self._deadline_of(job):
            await self.stop(seen, reason=StopReason.MAX_DURATION)

    def _tell_of_failed_check(self, job: Job, error: BackendError) -> None:
        """Once a minute: an engine that is down is looked at every second, but is one event."""
        now_ns = self._clock.monotonic_ns()
        last_ns = self._check_failed_ns.get(job.id)
        if last_ns is None or now_ns - last_ns >= _COMPLAIN_EVERY_NS:
            self._check_failed_ns[job.id] = now_ns
            log.error("job.check_failed", job_id=job.id, error=str(error))

    async def _finish(self, job: Job, step: Callable[[Job], Job]) -> None:
        finished = await self._store.change(job.id, step)
        self._unwatch(job.id)
        assert finished.stop_reason is not None
        log.info(
            "job.finished",
            job_id=job.id,
            type=job.spec.type.value,
            stop_reason=finished.stop_reason.value,
            exit_code=finished.exit_code,
            unpublished=finished.unpublished,
            detail=finished.detail,
        )
        for observer in self._on_finished:
            observer(finished)
        self._tell_of_room()

    def _unwatch(self, job_id: str) -> None:
        for known in (
            self._deadline_ns,
            self._figures,
            self._figures_read_ns,
            self._check_failed_ns,
        ):
            known.pop(job_id, None)

    def _tell_of_room(self) -> None:
        for observer in self._on_room:
            observer()

    def _deadline_of(self, job: Job) -> int:
        if job.id not in self._deadline_ns:
            left = job.deadline_at - self._now()
            left_ns = int(left / timedelta(microseconds=1)) * 1000
            self._deadline_ns[job.id] = self._clock.monotonic_ns() + left_ns
        return self._deadline_ns[job.id]

    async def _read_figures(self, job: Job, *, now_or_never: bool) -> None:
        now_ns = self._clock.monotonic_ns()
        last_ns = self._figures_read_ns.get(job.id)
        due = last_ns is None or now_ns - last_ns >= _FIGURES_EVERY_NS
        if not (due or now_or_never) or job.workload is None:
            return
        self._figures_read_ns[job.id] = now_ns
        tail = b"".join(
            [chunk async for chunk in self._backend.logs(job.workload, tail_bytes=TAIL_BYTES)]
        )
        figures = newest_figures(tail)
        if figures is not None:
            self._figures[job.id] = figures
        if not job.post_call and tells_that_the_call_is_over(tail):
            await self._store.change(job.id, call_over)
            log.info("job.call_over", job_id=job.id, type=job.spec.type.value)
            self._tell_of_room()
            await self._backend.lower(job.workload)

    async def _sweep(self) -> None:
        now = self._now()
        settings = self._settings
        kept = [d for d in (settings.completed_jobs_retention, settings.failed_jobs_retention) if d]
        if not kept:
            return
        for job in await self._store.finished_before(now - min(kept)):
            if job.unpublished and entry_of(job).publication is not Publication.UNPUBLISHABLE:
                continue  # never before it is published or given up
            clean = job.exit_code == 0 and not job.unpublished
            keep = settings.completed_jobs_retention if clean else settings.failed_jobs_retention
            assert job.stopped_at is not None
            if keep is not None and self._is_elsewhere(job):
                keep += _HOST_MAY_RETURN  # only there its files can be removed with it
            if keep is None or now - job.stopped_at < keep:
                continue
            try:
                await self._forget(job)
            except BackendError as error:
                log.error("job.removal_failed", job_id=job.id, error=str(error))

    def _now(self) -> datetime:
        return self._clock.utc_now()
