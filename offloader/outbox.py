"""Results that their jobs could not publish: retried with growing waits, healed by a fresh token.

A job that ends with something left in its directory is `unpublished`. The outbox runs the job's own `salvage`
on it, one attempt after the other, until the directory is empty, the site refuses for good, or the
result is too old. Tokens die with every restart of the plugin (calls-plugin.md, trap 49); the next job of the
same client and site brings a new one, and everything that waits for that site is tried at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.backends.base import Backend, Observation, Phase
from offloader.errors import BackendError, NothingToPublish
from offloader.models import Job, OutboxEntry, Publication
from offloader.store.base import JobStore

FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(hours=6)
SALVAGE_REFUSED: Final = 3
"""Exit code: the site answered, and no later attempt will get another answer (docs/job-contract.md 4)."""
_REFUSALS: Final = 3
"""So often in a row, hours apart, before it is believed."""

log = get_logger()


class TokenSource(Protocol):
    """Where the tokens of earlier jobs are kept, encrypted."""

    async def newest_secret(self, client_id: str, site_url: str) -> str | None:
        """The newest token that the client sent for that site, or None."""


class NoTokens:
    """A `TokenSource` of a service that keeps none: results wait until they are published by hand."""

    async def newest_secret(self, client_id: str, site_url: str) -> str | None:
        return None


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
    ) -> None:
        """`max_age` None: for ever. `slots`: attempts at a time."""
        self._store = store
        self._backend = backend
        self._tokens = tokens
        self._clock = clock
        self._max_age = max_age
        self._slots = slots

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
            if entry.publication is not Publication.WAITING:
                continue
            if job.outbox is None:
                await self._change(job, partial(_wait, at=(job.stopped_at or now) + FIRST_WAIT))
            elif free > 0 and (entry.next_at is None or entry.next_at <= now):
                free -= 1
                await self._attempt(job, now)

    async def heal(self, *, client_id: str, site_url: str) -> None:
        """A fresh token has come: whatever waits for that site is due now."""
        now = self._clock.utc_now()
        for job in await self._store.unpublished():
            same = job.client_id == client_id and site_url_of(job) == site_url
            if same and entry_of(job).publication is Publication.WAITING:
                await self._change(job, partial(_wait, at=now))

    async def republish(self, job: Job) -> Job:
        """Try now, whatever became of earlier attempts.

        Raises:
            NothingToPublish: everything of the job is published, or it is still running.
        """
        if job.live or not job.unpublished:
            raise NothingToPublish(job.id)
        if entry_of(job).publication is Publication.RUNNING:
            return job
        return await self._change(job, partial(_wait, at=self._clock.utc_now()))

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
        site_url = site_url_of(job)
        token = await self._tokens.newest_secret(job.client_id, site_url)
        if token is None:
            detail = "no token is known for its site; the next job of its client brings one"
            await self._failed(job, partial(_failed, detail=detail, now=now))
            return
        assert job.workload is not None
        variables = {"AUTH_TOKEN": token, "SITE_URL": site_url}
        try:
            workload = await self._backend.salvage(
                job.workload, job_type=job.spec.type, variables=variables
            )
        except BackendError as error:
            await self._failed(job, partial(_failed, detail=str(error), now=now))
            return
        started = await self._change(
            job,
            lambda entry: replace(
                entry, publication=Publication.RUNNING, workload=workload, next_at=None
            ),
        )
        attempts = entry_of(started).attempts + 1
        log.info("outbox.attempt", job_id=job.id, type=job.spec.type.value, attempt=attempts)

    async def _look_at_attempt(self, job: Job, now: datetime) -> None:
        workload = entry_of(job).workload
        assert workload is not None
        assert job.workload is not None
        try:
            observation = await self._backend.poll(workload)
            if observation.phase in (Phase.STARTING, Phase.RUNNING):
                return
            left = (await self._backend.poll(job.workload)).unpublished
        except BackendError as error:
            log.error("outbox.attempt_unknown", job_id=job.id, error=str(error))
            return
        if left:
            changed = await self._failed(job, partial(_judged, observation=observation, now=now))
            entry = entry_of(changed)
            log.warning(
                "outbox.not_published",
                job_id=job.id,
                publication=entry.publication.value,
                attempts=entry.attempts,
                detail=entry.detail,
            )
        else:
            await self._store.change(job.id, _published)
            log.info("outbox.published", job_id=job.id, type=job.spec.type.value)

    async def _failed(self, job: Job, step: Callable[[OutboxEntry], OutboxEntry]) -> Job:
        """Store what became of an attempt; one more is only waited for while the result is young enough."""

        def step_or_end(entry: OutboxEntry) -> OutboxEntry:
            entry = step(entry)
            ended = job.stopped_at or job.created_at
            old = self._max_age is not None and self._clock.utc_now() - ended > self._max_age
            if old and entry.publication is Publication.WAITING:
                text = f"not published within {self._max_age}; at last: {entry.detail}"
                return _given_up(entry, detail=text)
            return entry

        return await self._change(job, step_or_end)

    async def _change(self, job: Job, step: Callable[[OutboxEntry], OutboxEntry]) -> Job:
        return await self._store.change(
            job.id, lambda present: replace(present, outbox=step(entry_of(present)))
        )


def entry_of(job: Job) -> OutboxEntry:
    """Its retries so far; the beginning when there were none."""
    return job.outbox or OutboxEntry()


def wait_after(attempts: int) -> timedelta:
    """One minute, two, four … up to six hours."""
    return min(timedelta(minutes=1 << min(attempts - 1, 16)), LONGEST_WAIT)


def _wait(entry: OutboxEntry, *, at: datetime) -> OutboxEntry:
    return replace(entry, publication=Publication.WAITING, next_at=at)


def _failed(entry: OutboxEntry, *, detail: str, now: datetime) -> OutboxEntry:
    attempts = entry.attempts + 1
    return replace(
        entry,
        publication=Publication.WAITING,
        attempts=attempts,
        next_at=now + wait_after(attempts),
        detail=detail,
    )


def _given_up(entry: OutboxEntry, *, detail: str) -> OutboxEntry:
    return replace(entry, publication=Publication.UNPUBLISHABLE, next_at=None, detail=detail)


def _judged(entry: OutboxEntry, *, observation: Observation, now: datetime) -> OutboxEntry:
    """After an attempt that left something."""
    if observation.exit_code == 0:
        # The salvage ended well and kept the files: an answer was lost, and a second try could post twice.
        detail = "its post may exist already: look into the channel before publishing it by hand"
        return _given_up(entry, detail=detail)
    if observation.exit_code == SALVAGE_REFUSED and entry.attempts + 1 >= _REFUSALS:
        return _given_up(
            replace(entry, attempts=entry.attempts + 1), detail="its channel or post is gone"
        )
    code = observation.exit_code
    detail = observation.detail or (
        "the attempt's process is lost" if code is None else f"the attempt ended with code {code}"
    )
    return _failed(entry, detail=detail, now=now)


def _published(job: Job) -> Job:
    entry = replace(entry_of(job), publication=Publication.PUBLISHED, next_at=None, detail="")
    return replace(job, unpublished=False, outbox=entry)


def site_url_of(job: Job) -> str:
    """The Mattermost that the job belongs to."""
    return str(job.spec.input_data.get("site_url") or "")
