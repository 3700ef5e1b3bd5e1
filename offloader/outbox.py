"""Results that their jobs could not publish: retried with growing waits, healed by a fresh token.

A job that ends with something left in its directory is `unpublished`. The outbox runs the job's own `salvage`
on it, one attempt after the other, until the directory is empty, the site refuses for good, or the
result is too old. Tokens die with every restart of the plugin (calls-plugin.md, trap 49); the next job of the
same client and site brings a new one, and everything that waits for that site is tried at once.

Where the files are gone with their host and jobs copy theirs elsewhere (docs/copies.md), an attempt is a
`rescue`: on this replica's backend, whichever host the job was on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader import outbox_steps as steps
from offloader.backends.base import Backend, Phase
from offloader.copies import JobCopies, result_of
from offloader.errors import BackendError, FilesGone, NothingToPublish
from offloader.models import Job, OutboxEntry, Publication, StopReason
from offloader.setting_values import in_words
from offloader.store.base import JobStore

FIRST_WAIT: Final = timedelta(seconds=30)
_VOUCHED: Final = "PUBLISH_UNFENCED"
_COMPLAIN_EVERY_NS: Final = 60_000_000_000

log = get_logger()


class TokenSource(Protocol):
    """Where the tokens of earlier jobs are kept, encrypted."""

    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        """The newest token that this registration of the client sent for that site, or None."""

    async def variables(self, job_id: str) -> Mapping[str, str]:
        """What names the job's speech service, its keys included; often nothing."""


class NoTokens:
    """A `TokenSource` of a service that keeps none: results wait until they are published by hand."""

    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        return None

    async def variables(self, job_id: str) -> Mapping[str, str]:
        return {}


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
        self._complained_ns: dict[str, int] = {}
        """When it was last said of a job that its attempt cannot be looked at."""

    def retune(
        self, *, max_age: timedelta | None, slots: int, refusal: Callable[[str], str]
    ) -> None:
        """Others from now on; attempts that run go on."""
        self._max_age = max_age
        self._slots = slots
        self._refusal = refusal

    async def check(self, waiting: Sequence[Job] | None = None) -> None:
        """Look at every unpublished result once. A backend that fails costs an attempt, not the round.

        `waiting`: those that this replica watches over; None: there is no other.
        """
        now = self._clock.utc_now()
        if waiting is None:
            waiting = await self._store.unpublished()
        running = [job for job in waiting if entry_of(job).publication is Publication.RUNNING]
        free = self._slots - len(running)
        for job in running:
            await self._look_at_attempt(job, now)
        for job in waiting:
            entry = entry_of(job)
            if entry.publication is not Publication.WAITING or job.deletion_at:
                continue
            if job.outbox is None:
                await self._change(
                    job, partial(steps.wait, at=(job.stopped_at or now) + FIRST_WAIT)
                )
            elif (
                free > 0
                and (entry.next_at is None or entry.next_at <= now)
                and not job.retranscribing_now
            ):
                free -= 1
                await self._attempt(job, now)

    async def heal(self, *, client_id: str, site_url: str, registration: str = "") -> None:
        """A fresh token has come: whatever of this registration waits for that site is due now."""
        now = self._clock.utc_now()
        for job in await self._store.unpublished():
            own = (job.client_id, job.registration) == (client_id, registration)
            same = own and site_url_of(job) == site_url
            if same and entry_of(job).publication is Publication.WAITING:
                await self._change(job, partial(steps.wait, at=now))

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

    async def _attempt(self, job: Job, now: datetime) -> None:
        if job.stop_reason is StopReason.LOST and await self._is_back(job, now):
            return
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
        assert job.workload is not None
        keys = await self._tokens.variables(job.id)
        variables = {**keys, "AUTH_TOKEN": token, "SITE_URL": site_url}
        vouched = {_VOUCHED: "true"} if entry_of(job).vouched else {}
        try:
            workload = await self._backend.salvage(
                job.workload, job_type=job.spec.type, variables={**variables, **vouched}
            )
        except FilesGone as error:
            if self._copies is not None:
                await self._rescue(job, self._copies, variables, now)
                return
            await self._failed(job, partial(steps.failed, detail=str(error), now=now))
            return
        except BackendError as error:
            await self._failed(job, partial(steps.failed, detail=str(error), now=now))
            return
        await self._started(job, partial(steps.running, workload=workload), how="salvage")

    async def _is_back(self, job: Job, now: datetime) -> bool:
        """Of a lost job the host alone may have been out of reach: it runs on, and publishes by itself."""
        assert job.workload is not None
        try:
            own = await self._backend.poll(job.workload)
        except BackendError:
            return False
        if own.phase in (Phase.STARTING, Phase.RUNNING):
            detail = "it was lost and is back: it runs still"
            await self._failed(job, partial(steps.lives, detail=detail, now=now))
            return True
        if own.phase is Phase.LOST or own.unpublished or own.exit_code != 0:
            return False
        await self._store.change(job.id, partial(_published, now=now))
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
            await self._store.change(job.id, partial(_published, now=now))
            log.info("outbox.published", job_id=job.id, type=job.spec.type.value, by="the job")
            return
        # Its host may only be away: a job that is younger than a round of copies, say, on one that reboots.
        detail = "its files are gone or out of reach, and there is no copy of them"
        await self._failed(job, partial(steps.failed, detail=detail, now=now))

    async def _started(
        self, job: Job, step: Callable[[OutboxEntry], OutboxEntry], *, how: str
    ) -> None:
        self._tell_of_attempt(await self._change(job, step), how=how)

    def _tell_of_attempt(self, job: Job, *, how: str) -> None:
        attempts = entry_of(job).attempts + 1
        log.info(
            "outbox.attempt", job_id=job.id, type=job.spec.type.value, attempt=attempts, how=how
        )

    async def _look_at_attempt(self, job: Job, now: datetime) -> None:
        workload = entry_of(job).workload
        assert workload is not None
        assert job.workload is not None
        try:
            observation = await self._backend.poll(workload)
            if observation.phase in (Phase.STARTING, Phase.RUNNING):
                return
            own = await self._backend.poll(job.workload)
            if own.phase in (Phase.STARTING, Phase.RUNNING):
                return  # of its ended job the backend knows no more just now
            left = own.unpublished or (
                entry_of(job).copied
                and self._copies is not None
                and await self._copies.hold_result(job)
            )
        except BackendError as error:
            self._complain(job, error)
            return
        self._complained_ns.pop(job.id, None)
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
            await self._store.change(job.id, partial(_published, now=now))
            log.info("outbox.published", job_id=job.id, type=job.spec.type.value)

    def _complain(self, job: Job, error: BackendError) -> None:
        """Once a minute: what is looked at every second is one event."""
        now_ns = self._clock.monotonic_ns()
        last_ns = self._complained_ns.get(job.id)
        if last_ns is None or now_ns - last_ns >= _COMPLAIN_EVERY_NS:
            self._complained_ns[job.id] = now_ns
            log.error("outbox.attempt_unknown", job_id=job.id, error=str(error))

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


def entry_of(job: Job) -> OutboxEntry:
    """Its retries so far; the beginning when there were none."""
    return job.outbox or OutboxEntry()


def _published(job: Job, *, now: datetime) -> Job:
    entry = replace(entry_of(job), publication=Publication.PUBLISHED, next_at=None, detail="")
    # What is left of its files is another size now.
    return replace(job, unpublished=False, outbox=entry, published_at=now, left_bytes=None)


def site_url_of(job: Job) -> str:
    """The Mattermost that the job belongs to."""
    return str(job.spec.input_data.get("site_url") or "")
