"""Results that their jobs could not publish: retried with growing waits, healed by a fresh token.

A job that ends with something left in its directory is `unpublished`. The outbox runs the job's own `salvage`
on it, one attempt after the other, until the directory is empty, the site refuses for good, or the
result is too old. Tokens die with every restart of the plugin (calls-plugin.md, trap 49); the next job of the
same client and site brings a new one, and everything that waits for that site is tried at once.

Where the files are gone with their host and jobs copy theirs elsewhere (docs/copies.md), an attempt is a
`rescue`: on this replica's backend, whichever host the job was on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader import outbox_steps as steps
from offloader.backends.base import Backend, Observation, Phase
from offloader.complaints import Complaints
from offloader.copies import JobCopies, result_of
from offloader.errors import (
    BackendError,
    FilesGone,
    NothingToPublish,
)
from offloader.models import Job, OutboxEntry, Publication, StopReason
from offloader.outbox_steps import entry_of, site_url_of
from offloader.outbox_tokens import TokenSource
from offloader.setting_values import in_words
from offloader.store.base import JobStore

T = TypeVar("T")

FIRST_WAIT: Final = timedelta(seconds=30)
_VOUCHED: Final = "PUBLISH_UNFENCED"
_COMPLAIN_EVERY_NS: Final = 60_000_000_000
_DEFECT: Final = "this service could not try it: its log says why (outbox.job_failed)"

log = get_logger()


class Outbox:
    """One per process; `check` is one round of it, `run` by the supervisor's task."""

    def __init__(
        self,
        *,
        store: JobStore,
        backend: Backend,
        tokens: TokenSource,
        clock: Clock,
        max_age: timedelta | None,
        slots: int,
        copies: JobCopies | None = None,
        host: str = "",
        refusal: Callable[[str], str] = lambda _: "",
    ) -> None:
        """`max_age` None: for ever. `slots`: attempts at a time. `copies` None: jobs make none. `host`: of
        this replica, to which a job belongs that it rescues; empty: there is no other. `refusal`: why nobody
        may connect to a site; empty: one may."""
        self._store = store
        self._backend = backend
        self._tokens = tokens
        self._clock = clock
        self._max_age = max_age
        self._slots = slots
        self._copies = copies
        self._host = host
        self._refusal = refusal
        self._complaints = Complaints(clock, every_ns=_COMPLAIN_EVERY_NS)

    def retune(
        self, *, max_age: timedelta | None, slots: int, refusal: Callable[[str], str]
    ) -> None:
        """Others from now on; attempts that run go on."""
        self._max_age = max_age
        self._slots = slots
        self._refusal = refusal

    async def check(self, waiting: Sequence[Job] | None = None) -> None:
        """Look at every unpublished result once. A backend that fails costs an attempt, not the round, and so
        does whatever else goes wrong with one job.

        `waiting`: those that this replica watches over; None: there is no other.

        Raises:
            StoreError: nothing can be noted of any job.
        """
        now = self._clock.utc_now()
        if waiting is None:
            waiting = await self._store.unpublished()
        running = [job for job in waiting if entry_of(job).publication is Publication.RUNNING]
        free = self._slots
        for job in running:
            # One that nobody can look at would keep its place for ever.
            if await self._alone(job, self._look_at_attempt(job, now)):
                free -= 1
        for job in waiting:
            entry = entry_of(job)
            if entry.publication is not Publication.WAITING or job.deletion_at:
                continue
            if job.outbox is None:
                step = partial(steps.wait, at=(job.stopped_at or now) + FIRST_WAIT)
                await self._alone(job, self._change(job, step))
            elif (entry.next_at is None or entry.next_at <= now) and not job.retranscribing_now:
                if free <= 0 and not self._is_former(job):
                    continue
                tried = await self._alone(job, self._attempt(job, now, may_start=free > 0))
                free -= tried is not False
                if tried is None:
                    # Others have their turn before it comes again.
                    step = partial(steps.failed, detail=_DEFECT, now=now)
                    await self._alone(job, self._failed(job, step))

    async def heal(self, *, client_id: str, site_url: str, registration: str = "") -> None:
        """A fresh token has come: whatever of this registration waits for that site is due now.

        Raises:
            StoreError: nothing can be noted of any job.
        """
        now = self._clock.utc_now()
        for job in await self._store.unpublished():
            own = (job.client_id, job.registration) == (client_id, registration)
            same = own and site_url_of(job) == site_url
            if same and entry_of(job).publication is Publication.WAITING:
                await self._alone(job, self._change(job, partial(steps.wait, at=now)))

    async def republish(self, job: Job) -> Job:
        """Try now, whatever became of earlier attempts.

        Raises:
            NothingToPublish: everything of the job is published, or it is still running.
        """
        if job.live or not job.unpublished or job.deletion_at:
            raise NothingToPublish(job.id)
        if entry_of(job).publication is Publication.RUNNING:
            return job
        return await self._change(job, partial(steps.wait, at=self._clock.utc_now()))

    async def oldest_age(self) -> timedelta:
        """How long the oldest result waits that is still tried; 0 when there is none."""
        now = self._clock.utc_now()
        moments = [
            job.stopped_at
            for job in await self._store.unpublished()
            if job.stopped_at and entry_of(job).publication is not Publication.UNPUBLISHABLE
        ]
        return now - min(moments) if moments else timedelta(0)

    async def _alone(self, job: Job, work: Awaitable[T]) -> T | None:
        """See `Complaints.alone`."""
        return await self._complaints.alone("outbox.job_failed", job.id, work)

    def _is_former(self, job: Job) -> bool:
        """Another backend than the configured one ran it; its files may be in reach all the same."""
        return job.workload is not None and job.workload.backend != self._backend.name

    async def _attempt(self, job: Job, now: datetime, *, may_start: bool) -> bool:
        """Whether it took a place. Without one it is only seen to that what is out of reach says so."""
        lost = self._is_former(job) or job.stop_reason is StopReason.LOST
        if (lost and await self._is_back(job, now)) or not may_start:
            return False
        await self._try(job, now)
        return True

    async def _try(self, job: Job, now: datetime) -> None:
        assert job.workload is not None
        site_url = site_url_of(job)
        if refusal := self._refusal(site_url):
            detail = f"its site {refusal}"
            await self._failed(job, partial(steps.failed, detail=detail, now=now))
            return
        token = await self._tokens.newest_secret(
            job.client_id, site_url, registration=job.registration
        )
        if token is None:
            detail = "no token is known for its site; the next job of its client brings one"
            await self._failed(job, partial(steps.failed, detail=detail, now=now))
            return
        keys = await self._tokens.variables(job.id)
        variables = {**keys, "AUTH_TOKEN": token, "SITE_URL": site_url}
        vouched = {_VOUCHED: "true"} if entry_of(job).vouched else {}
        try:
            workload = await self._backend.salvage(
                job.workload, job_type=job.spec.type, variables={**variables, **vouched}
            )
        except BackendError as error:
            if isinstance(error, FilesGone) and self._copies is not None:
                await self._rescue(job, self._copies, variables, now)
            else:
                await self._failed(job, partial(steps.failed, detail=str(error), now=now))
            return
        started = await self._change(job, partial(steps.running, workload=workload))
        self._tell_of_attempt(started, how="salvage")

    async def _is_back(self, job: Job, now: datetime) -> bool:
        """Of a lost job the host alone may have been out of reach: it runs on, and publishes by itself.
        True: whatever there is to be said of the job is stored."""
        assert job.workload is not None
        try:
            own = await self._backend.poll(job.workload)
        except BackendError:
            return False
        if own.former:
            return await self._is_out_of_reach(job, own, now)
        if own.phase in (Phase.STARTING, Phase.RUNNING):
            detail = "it was lost and is back: it runs still"
            await self._failed(job, partial(steps.lives, detail=detail, now=now))
            return True
        if own.phase is Phase.LOST or own.unpublished or own.exit_code != 0:
            return False
        await self._store.change(job.id, partial(steps.published, now=now))
        log.info("outbox.published", job_id=job.id, type=job.spec.type.value, by="the job")
        return True

    async def _rescue(
        self, job: Job, copies: JobCopies, variables: Mapping[str, str], now: datetime
    ) -> None:
        entry = entry_of(job)
        assert job.workload is not None
        if entry.vouched:
            # An attempt that nobody saw end was allowed to post without asking anybody.
            detail = (
                "its post may exist already: look into the channel before publishing it by hand"
            )
            await self._change(job, partial(steps.given_up, detail=detail))
            return
        try:
            if not await copies.hold_result(job):
                await self._without_copy(job, now)
                return
            rescued = await self._backend.rescue(
                job.workload, job_type=job.spec.type, result=result_of(job), variables=variables
            )
        except BackendError as error:
            await self._failed(job, partial(steps.failed, detail=str(error), now=now))
            return

        def moved(present: Job) -> Job:
            entry = replace(entry_of(present), copied=True)
            return replace(
                present,
                workload=rescued.workload,
                host=self._host or present.host,
                outbox=steps.running(entry, workload=rescued.attempt),
            )

        started = await self._store.change(job.id, moved)
        self._tell_of_attempt(started, how="rescue")

    async def _without_copy(self, job: Job, now: datetime) -> None:
        if entry_of(job).copied:
            # Nobody removes it before there is a post: the job lives, and has made that itself.
            await self._store.change(job.id, partial(steps.published, now=now))
            log.info("outbox.published", job_id=job.id, type=job.spec.type.value, by="the job")
            return
        # Its host may only be away: a job that is younger than a round of copies, say, on one that reboots.
        detail = "its files are gone or out of reach, and there is no copy of them"
        await self._failed(job, partial(steps.failed, detail=detail, now=now))

    def _tell_of_attempt(self, job: Job, *, how: str) -> None:
        attempts = entry_of(job).attempts + 1
        log.info(
            "outbox.attempt", job_id=job.id, type=job.spec.type.value, attempt=attempts, how=how
        )

    async def _is_copied(self, job: Job) -> bool:
        """Raises BackendError."""
        return self._copies is not None and await self._copies.hold_result(job)

    async def _is_out_of_reach(self, job: Job, seen: Observation, now: datetime) -> bool:
        """A former backend has it, and there is no copy. Unlike what failed it is never too old: nobody has
        tried it."""
        detail = seen.detail
        try:
            if await self._is_copied(job):
                return False
        except BackendError as error:
            detail = f"{detail}; {error}"
        await self._note(job, partial(steps.out_of_reach, detail=detail, now=now))
        return True

    async def _note(self, job: Job, step: Callable[[OutboxEntry], OutboxEntry]) -> None:
        detail = entry_of(await self._change(job, step)).detail
        if detail != entry_of(job).detail:
            log.warning("outbox.out_of_reach", job_id=job.id, detail=detail)

    async def _look_at_attempt(self, job: Job, now: datetime) -> bool:
        """Whether it still takes a place."""
        workload = entry_of(job).workload
        assert workload is not None
        assert job.workload is not None
        try:
            observation = await self._backend.poll(workload)
            if observation.phase in (Phase.STARTING, Phase.RUNNING):
                return True
            if observation.former:
                await self._attempt_of_former(job, observation, now)
                return False
            own = await self._backend.poll(job.workload)
            if own.phase in (Phase.STARTING, Phase.RUNNING):
                return True  # of its ended job the backend knows no more just now
            left = own.unpublished or (entry_of(job).copied and await self._is_copied(job))
        except BackendError as error:
            if self._complaints.due(job.id):
                log.error("outbox.attempt_unknown", job_id=job.id, error=str(error))
            return True
        self._complaints.settled(job.id)
        if left:
            step = partial(steps.judged, job=job, observation=observation, now=now)
            changed = await self._failed(job, step)
            entry = entry_of(changed)
            log.warning(
                "outbox.not_published",
                job_id=job.id,
                publication=entry.publication.value,
                attempts=entry.attempts,
                detail=entry.detail,
            )
        else:
            await self._store.change(job.id, partial(steps.published, now=now))
            log.info("outbox.published", job_id=job.id, type=job.spec.type.value)
        return False

    async def _attempt_of_former(self, job: Job, seen: Observation, now: datetime) -> None:
        """How it ends, and whether it has posted, is told when its backend is configured again. Until then it
        stays under way, for a second one could post twice; where there is a copy, that is guarded against."""
        if await self._is_copied(job):
            await self._change(job, partial(steps.wait, at=now))
        elif entry_of(job).detail != seen.detail:
            await self._note(job, lambda entry: replace(entry, detail=seen.detail))

    async def _failed(self, job: Job, step: Callable[[OutboxEntry], OutboxEntry]) -> Job:
        """Store what became of an attempt; one more is only waited for while the result is young enough."""

        def step_or_end(entry: OutboxEntry) -> OutboxEntry:
            entry = step(entry)
            ended = job.stopped_at or job.created_at
            old = self._max_age is not None and self._clock.utc_now() - ended > self._max_age
            if self._max_age and old and entry.publication is Publication.WAITING:
                text = f"not published within {in_words(self._max_age)}; at last: {entry.detail}"
                return steps.given_up(entry, detail=text)
            return entry

        return await self._change(job, step_or_end)

    async def _change(self, job: Job, step: Callable[[OutboxEntry], OutboxEntry]) -> Job:
        return await self._store.change(
            job.id, lambda present: replace(present, outbox=step(entry_of(present)))
        )
