"""What clients can do with jobs: create, look at, stop, read logs and files, publish, delete. Knows no HTTP.

Owns admission and the launch; what happens to a job after that is the supervisor's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from clientauth.service import Identity
from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.backends.base import Artifact, Backend, LaunchRequest
from offloader.entrance import Entrance
from offloader.errors import (
    ArtifactNotFound,
    BackendError,
    CreationFailed,
    InvalidJob,
    JobIsRunning,
    JobIsStarting,
    JobNotFound,
    StoreError,
)
from offloader.idempotency import Repeats
from offloader.images import validate_runner
from offloader.lifecycle import launched, not_started, told_to_stop
from offloader.models import Job, JobSpec, JobState, JobType, StopReason
from offloader.republish import NoRepublisher, Republisher
from offloader.secrets import masked
from offloader.settings import JobsSettings
from offloader.store.base import AnswerStore, JobPage, JobStore
from offloader.store.memory import MemoryAnswerStore

_LONGEST_DURATION_S = 2**31 - 1
_LAUNCH_PATIENCE_S = 5.0
"""How long a wish to stop waits for a launch that is under way."""
_LAST_LINES_BYTES = 16 * 1024

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
        answers: AnswerStore | None = None,
        republisher: Republisher | None = None,
    ) -> None:
        """`answers` None: repeated requests are known to this process only."""
        self._settings = settings
        self._store = store
        self._backend = backend
        self._entrance = entrance
        self._clock = clock
        self._repeats = Repeats(answers=answers or MemoryAnswerStore(clock=clock), jobs=store)
        self._republisher = republisher or NoRepublisher()

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

    async def create(
        self, wish: JobWish, *, client: Identity, idempotency_key: str | None = None
    ) -> Job:
        """Admit and launch a job; returns when it is on its way, not when it is up.

        A wish that is repeated with the same key gets the first answer.

        Raises:
            InvalidJob: the wish cannot be.
            IdempotencyMismatch: the key was used for another wish.
            CreationFailed: no place in time, no disk, the service is ending, or the backend refused it.
        """
        job_type = self._validate(wish)
        job = Job(
            id=secrets.token_hex(6),
            client_id=client.client_id,
            spec=JobSpec(job_type, wish.runner, wish.max_duration_s, masked(wish.input_data)),
            created_at=self._clock.utc_now(),
        )
        if idempotency_key is None:
            return await self._create(job, wish)
        return await self._repeats.once(idempotency_key, job, partial(self._create, job, wish))

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

    async def follow_logs(self, job_id: str, *, client: Identity) -> AsyncIterator[bytes]:
        """The job's log from its beginning and on, until the job has ended.

        Raises:
            JobNotFound: unknown, or another client's.
        """
        job = await self._launched(await self.get(job_id, client=client))
        if job.workload is None:
            return _nothing()
        return self._backend.follow(job.workload)

    async def last_log_lines(self, job: Job, *, count: int = 20) -> Sequence[str]:
        """The newest lines of the job's log; none when they cannot be had."""
        if job.workload is None:
            return []
        try:
            chunks = self._backend.logs(job.workload, tail_bytes=_LAST_LINES_BYTES)
            tail = b"".join([chunk async for chunk in chunks])
        except BackendError as error:
            log.warning("job.log_unreadable", job_id=job.id, error=str(error))
            return []
        lines = tail.decode(errors="replace").splitlines()
        if len(tail) >= _LAST_LINES_BYTES:
            del lines[0]  # its beginning is cut off
        return lines[-count:]

    async def list_jobs(
        self,
        *,
        client: Identity,
        job_type: JobType | None = None,
        state: JobState | None = None,
        since: datetime | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """A page of the client's jobs (admin: of all), newest first; see `JobStore.list_jobs`.

        Raises:
            InvalidCursor: `before` did not come from here.
        """
        return await self._store.list_jobs(
            client_id=None if client.admin else client.client_id,
            job_type=job_type,
            state=state,
            since=since,
            before=before,
            limit=limit,
        )

    async def stop(self, job_id: str, *, client: Identity) -> Job:
        """Tell a job to end as if its call were over; it finishes and uploads what it has. Repeating it
        changes nothing. The wish is stored; the supervisor of whichever replica watches the job sends it.

        Raises:
            JobNotFound: unknown, or another client's.
            JobIsStarting: its launch takes long.
        """
        job = await self._launched(await self.get(job_id, client=client))
        if job.state is JobState.PENDING:
            raise JobIsStarting(job_id)
        stopping = await self._store.change(
            job_id, partial(told_to_stop, reason=StopReason.REQUESTED)
        )
        if stopping.state is not job.state:
            log.info("job.stopping", job_id=job_id, reason=StopReason.REQUESTED.value)
        return stopping

    async def artifacts(self, job_id: str, *, client: Identity) -> Sequence[Artifact]:
        """The files the job left and nobody removed.

        Raises:
            JobNotFound: unknown, or another client's.
        """
        job = await self.get(job_id, client=client)
        return [] if job.workload is None else await self._backend.artifacts(job.workload)

    async def read_artifact(
        self, job_id: str, name: str, *, client: Identity
    ) -> tuple[Artifact, AsyncIterator[bytes]]:
        """One file: its size as it is now, and its content.

        Raises:
            JobNotFound: unknown, or another client's.
            ArtifactNotFound: it left no such file.
        """
        job = await self.get(job_id, client=client)
        if job.workload is not None:
            for artifact in await self._backend.artifacts(job.workload):
                if artifact.name == name:
                    return artifact, self._backend.read_artifact(job.workload, name)
        raise ArtifactNotFound(name)

    async def republish(self, job_id: str, *, client: Identity, auth_token: str | None) -> Job:
        """Try again to publish what the job could not, with `auth_token` or the newest one known.

        Raises:
            JobNotFound: unknown, or another client's.
            NothingToPublish: everything of the job is published, or it is still running.
        """
        job = await self.get(job_id, client=client)
        return await self._republisher.republish(job, auth_token=auth_token)

    async def forget(self, job: Job) -> None:
        """Remove a finished job from the backend and the store; files first, so that none is orphaned."""
        if job.workload is not None:
            await self._backend.remove(job.workload)
        await self._store.delete(job.id)
        log.info("job.deleted", job_id=job.id)

    async def _create(self, job: Job, wish: JobWish) -> Job:
        await self._entrance.enter(job)
        return await self._launch(job, wish)

    async def _launched(self, job: Job) -> Job:
        """The job as it is when its launch is through; after a while, as it is anyhow."""
        give_up_s = asyncio.get_running_loop().time() + _LAUNCH_PATIENCE_S
        while job.state is JobState.PENDING and asyncio.get_running_loop().time() < give_up_s:
            await asyncio.sleep(0.05)
            found = await self._store.get(job.id)
            if found is None:
                raise JobNotFound(job.id)
            job = found
        return job

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
        started = await self._store.change(job.id, partial(launched, workload=workload))
        await self._token_came(started, wish)
        return started

    async def _token_came(self, job: Job, wish: JobWish) -> None:
        """Tokens die with every restart of the plugin; this one may publish what others could not."""
        auth_token = wish.input_data.get("auth_token")
        if not isinstance(auth_token, str) or not auth_token:
            return
        try:
            await self._republisher.token_came(job, auth_token=auth_token)
        except StoreError as error:
            # The job runs, and has its token: its start must not fail for what is only needed later.
            log.warning("job.token_not_kept", job_id=job.id, error=str(error))

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
