"""What clients can do with jobs: create, look at, read the log, delete. Knows no HTTP.

Owns admission and the launch; what happens to a job after that is the supervisor's.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from clientauth.service import Identity
from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.backends.base import Backend, LaunchRequest
from offloader.entrance import Entrance
from offloader.errors import (
    BackendError,
    CreationFailed,
    InvalidJob,
    JobIsRunning,
    JobNotFound,
)
from offloader.images import validate_runner
from offloader.lifecycle import launched, not_started
from offloader.models import Job, JobSpec, JobType
from offloader.secrets import masked
from offloader.settings import JobsSettings
from offloader.store.base import JobStore

_LONGEST_DURATION_S = 2**31 - 1

log = get_logger()


@dataclass(frozen=True, slots=True)
class JobWish:
    """What a client sent, of the right types but otherwise unchecked."""

    type: str
    runner: str
    max_duration_s: int
    input_data: Mapping[str, Any] = field(repr=False)
    """With secrets."""


class JobService:
    """One per process. Every method is safe to call concurrently."""

    def __init__(
        self,
        *,
        settings: JobsSettings,
        store: JobStore,
        backend: Backend,
        entrance: Entrance,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._backend = backend
        self._entrance = entrance
        self._clock = clock

    async def prepare(self, runners: Sequence[str]) -> None:
        """What the plugin asks at its activation: are these runners acceptable, and present?

        Raises:
            InvalidJob: no runners, or one that is not acceptable.
            BackendError: an image cannot be had.
        """
        if not runners:
            raise InvalidJob("invalid job service config: invalid empty Runners")
        for runner in runners:
            with _prefixed("invalid job service config: "):
                self._validate_runner(runner)
        await self._backend.prepare(runners)

    async def create(self, wish: JobWish, *, client: Identity) -> Job:
        """Admit and launch a job; returns when it is on its way, not when it is up.

        Raises:
            InvalidJob: the wish cannot be.
            CreationFailed: no place in time, no disk, the service is ending, or the backend refused it.
        """
        job_type = self._validate(wish)
        job = Job(
            id=secrets.token_hex(6),
            client_id=client.client_id,
            spec=JobSpec(job_type, wish.runner, wish.max_duration_s, masked(wish.input_data)),
            created_at=self._clock.utc_now(),
        )
        await self._entrance.enter(job)
        return await self._launch(job, wish)

    async def get(self, job_id: str, *, client: Identity) -> Job:
        """The job.

        Raises:
            JobNotFound: unknown, or another client's.
        """
        job = await self._store.get(job_id)
        if job is None or not (client.admin or job.client_id == client.client_id):
            raise JobNotFound(job_id)
        return job

    async def delete(self, job_id: str, *, client: Identity) -> None:
        """Delete the record, the log and the files of a finished job.

        Raises:
            JobNotFound: unknown, or another client's.
            JobIsRunning: it has not finished.
        """
        job = await self.get(job_id, client=client)
        if job.live:
            raise JobIsRunning
        await self.forget(job)

    async def logs(self, job_id: str, *, client: Identity) -> AsyncIterator[bytes]:
        """The job's log so far.

        Raises:
            JobNotFound: unknown, or another client's.
        """
        job = await self.get(job_id, client=client)
        if job.workload is None:
            return _nothing()
        return self._backend.logs(job.workload)

    async def forget(self, job: Job) -> None:
        """Remove a finished job from the backend and the store; files first, so that none is orphaned."""
        if job.workload is not None:
            await self._backend.remove(job.workload)
        await self._store.delete(job.id)
        log.info("job.deleted", job_id=job.id)

    async def _launch(self, job: Job, wish: JobWish) -> Job:
        request = LaunchRequest(job.id, job.spec.type, wish.runner, wish.input_data)
        try:
            workload = await self._backend.launch(request)
        except BackendError as error:
            now = self._clock.utc_now()
            await self._store.change(job.id, partial(not_started, detail=str(error), now=now))
            log.error("job.launch_failed", job_id=job.id, error=str(error))
            raise CreationFailed(str(error)) from error
        log.info("job.launched", job_id=job.id, type=job.spec.type.value, runner=wish.runner)
        return await self._store.change(job.id, partial(launched, workload=workload))

    def _validate(self, wish: JobWish) -> JobType:
        """In the order of job-service.md 1."""
        if not wish.type:
            raise InvalidJob("invalid Type value: should not be empty")
        with _prefixed("invalid Runner value: "):
            self._validate_runner(wish.runner)
        if wish.max_duration_s <= 0:
            raise InvalidJob("invalid MaxDurationSec value: should be positive")
        if wish.max_duration_s > _LONGEST_DURATION_S:
            raise InvalidJob(
                f"invalid MaxDurationSec value: should be at most {_LONGEST_DURATION_S}"
            )
        try:
            job_type = JobType(wish.type)
        except ValueError as error:
            raise InvalidJob(f'invalid Type value: "{wish.type}"') from error
        for key, value in wish.input_data.items():
            if isinstance(value, str) and "\0" in value:
                raise InvalidJob(
                    f'invalid InputData value: "{key}" should not hold a NUL character'
                )
        return job_type

    def _validate_runner(self, runner: str) -> None:
        settings = self._settings
        validate_runner(runner, registry=settings.image_registry, checks=settings.check_runners)


@contextmanager
def _prefixed(prefix: str) -> Iterator[None]:
    try:
        yield
    except InvalidJob as error:
        raise InvalidJob(prefix + str(error)) from error


async def _nothing() -> AsyncIterator[bytes]:
    """The log of a job that was never launched."""
    return
    yield b""
