"""What clients can do with jobs: create, look at, stop, read logs and files, publish, delete. Knows no HTTP.

Owns admission; what happens to a job after its launch is the supervisor's.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from clientauth.service import Identity
from foundation.clock import Clock
from foundation.logs import get_logger
from foundation.spans import current_span, step
from offloader.backends.base import Artifact, Backend
from offloader.ceilings import under_ceilings
from offloader.entrance import Entrance
from offloader.errors import (
    ArtifactNotFound,
    CreationFailed,
    InvalidJob,
    JobIsStarting,
    JobNotFound,
)
from offloader.failures import failure_fields, refusal_of
from offloader.idempotency import Repeats
from offloader.job_logs import JobLogs
from offloader.job_traces import carrying_trace, with_trace
from offloader.job_wish import JobWish, check_runner, check_site, check_speech, check_wish
from offloader.launching import Launcher
from offloader.lifecycle import told_to_stop
from offloader.lost_jobs import LostJobs
from offloader.models import Job, JobSpec, JobState, JobType, StopReason
from offloader.ownership import owns, sees
from offloader.removal import Removal
from offloader.republish import NoRepublisher, Republisher
from offloader.retranscription import Retranscriber
from offloader.retranscription_wish import RetranscriptionWish
from offloader.secrets import masked
from offloader.settings import JobsSettings
from offloader.store.base import AnswerStore, JobPage, JobStore
from offloader.store.memory import MemoryAnswerStore

_LAUNCH_PATIENCE_S = 5.0
"""How long a wish to stop waits for a launch that is under way."""

log = get_logger()


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
        retranscriber: Retranscriber,
        answers: AnswerStore | None = None,
        republisher: Republisher | None = None,
        lost: LostJobs | None = None,
        removal: Removal | None = None,
        keyed_hash: Callable[[str], str] | None = None,
        former_hashes: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        """`answers` None: repeated requests are known to this process only. `lost` None: there are no
        copies. `removal` None: no tokens are kept. `keyed_hash`: by which repeated requests are compared,
        secrets included; None: without. `former_hashes`: the same by older secret keys."""
        self._settings = settings
        self._store = store
        self._backend = backend
        self._entrance = entrance
        self._clock = clock
        self._repeats = Repeats(answers=answers or MemoryAnswerStore(clock=clock), jobs=store)
        self._republisher = republisher or NoRepublisher()
        self._launcher = Launcher(
            store=store, backend=backend, clock=clock, keep_secrets=self._republisher.secrets_came
        )
        self._retranscriber = retranscriber
        self._lost = lost or LostJobs(backend, None)
        self._removal = removal or Removal(
            store=store, backend=backend, lost=self._lost, clock=clock
        )
        self._logs = JobLogs(store=store, backend=backend, lost=self._lost)
        self._keyed_hash = keyed_hash
        self._former_hashes = former_hashes or (lambda _: ())

    def retune(self, settings: JobsSettings) -> None:
        """From now on, jobs are checked and lowered by these."""
        self._settings = settings

    async def prepare(self, runners: Sequence[str]) -> None:
        """What the plugin asks at its activation: are these runners acceptable, and present?

        Raises:
            InvalidJob: no runners, or one that is not acceptable.
            BackendError: an image cannot be had.
        """
        if not runners:
            raise InvalidJob("invalid job service config: invalid empty Runners")
        for runner in runners:
            check_runner(runner, settings=self._settings, prefix="invalid job service config: ")
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
        job_type = check_wish(wish, settings=self._settings)
        job_id, comparable = secrets.token_hex(6), _comparable(wish)
        wish_hash = self._keyed_hash(comparable) if self._keyed_hash is not None else ""
        former = self._former_hashes(comparable)
        wish, lowered = under_ceilings(wish, job_type, self._settings.ceilings)
        job = Job(
            id=job_id,
            client_id=client.client_id,
            spec=JobSpec(job_type, wish.runner, wish.max_duration_s, masked(wish.input_data)),
            created_at=self._clock.utc_now(),
            registration=client.registration,
        )
        if idempotency_key is None:
            made = await self._create(job, wish)
        else:
            job = replace(job, wish_hash=wish_hash)
            create = partial(self._create, job, wish)
            made = await self._repeats.once(idempotency_key, job, create, former=former)
        if lowered and made.id == job_id:
            log.warning("job.lowered", job_id=job_id, changes=list(lowered))
        return made

    async def get(self, job_id: str, *, client: Identity, doomed: bool = False) -> Job:
        """The job. `doomed`: the admin is shown one that is to be deleted, too.

        Raises:
            JobNotFound: unknown, being deleted, or another client's.
        """
        job = await self._own(job_id, client=client)
        if job.deletion_at is not None and not (doomed and client.admin):
            raise JobNotFound(job_id)
        return job

    async def delete(self, job_id: str, *, client: Identity) -> bool:
        """Delete the record, the log, the files and the token of a finished job. False: some of it cannot be
        reached now, and is removed later.

        Raises:
            JobNotFound: unknown, or another client's.
            JobIsRunning: it has not finished.
            JobIsHeld: somebody holds it.
        """
        return await self._removal.delete(await self._own(job_id, client=client))

    async def logs(self, job_id: str, *, client: Identity) -> AsyncIterator[bytes]:
        """The job's log so far; of one that failed, with a last line that says how and what to do.

        Raises:
            JobNotFound: unknown, or another client's.
        """
        return self._logs.so_far(await self.get(job_id, client=client))

    async def follow_logs(self, job_id: str, *, client: Identity) -> AsyncIterator[bytes]:
        """The job's log from its beginning and on, until the job has ended.

        Raises:
            JobNotFound: unknown, or another client's.
        """
        return self._logs.follow(await self._launched(await self.get(job_id, client=client)))

    async def last_log_lines(self, job: Job, *, count: int = 20) -> Sequence[str]:
        """The newest lines of the job's log; none when they cannot be had."""
        return await self._logs.last_lines(job, count=count)

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
        """A page of the client's jobs (admin: of all), newest first; see `JobStore.list_jobs`. What is to be
        deleted is shown to the admin alone, so a client's page may be shorter than `limit`.

        Raises:
            InvalidCursor: `before` did not come from here.
        """
        page = await self._store.list_jobs(
            client_id=None if client.admin else client.client_id,
            registration=None if client.admin else client.registration,
            job_type=job_type,
            state=state,
            since=since,
            before=before,
            limit=limit,
        )
        return replace(page, jobs=[job for job in page.jobs if sees(client, job)])

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
        """The files the job left and nobody removed; of a lost one, those in its copy.

        Raises:
            BackendError: they are gone with its host, or out of reach; the text says why.
            JobNotFound: unknown, or another client's.
        """
        job = await self.get(job_id, client=client)
        return [] if job.workload is None else await self._lost.artifacts(job)

    async def open_artifact(
        self, job_id: str, name: str, *, client: Identity
    ) -> tuple[Artifact, Callable[[int], AsyncIterator[bytes]]]:
        """One file: what it is now, and what gives its content from a byte on.

        Raises:
            JobNotFound: unknown, or another client's.
            ArtifactNotFound: it left no such file.
        """
        job = await self.get(job_id, client=client)
        files = [] if job.workload is None else await self._lost.artifacts(job)
        artifact = next((file for file in files if file.name == name), None)
        if artifact is None:
            raise ArtifactNotFound(name)
        return artifact, lambda start: self._lost.read(job, artifact, start=start)

    async def republish(self, job_id: str, *, client: Identity, auth_token: str | None) -> Job:
        """Try again to publish what the job could not, with `auth_token` or the newest one known.

        Raises:
            JobNotFound: unknown, or another client's.
            NothingToPublish: everything of the job is published, or it is still running.
        """
        job = await self.get(job_id, client=client)
        return await self._republisher.republish(job, auth_token=auth_token)

    async def retranscribe(
        self, job_id: str, wish: RetranscriptionWish, *, client: Identity
    ) -> Job:
        """Transcribe the audio that the job kept again, in the background.

        Raises:
            JobNotFound: unknown, or another client's.
            InvalidJob: the wish cannot be.
            NotRetranscribable: the job kept no audio, or is busy; the text says which.
        """
        job = await self.get(job_id, client=client)
        if wish.publish:  # the admin may have named the sites since
            check_site(job.spec.input_data, network=self._settings.network)
        network = self._settings.network
        check_speech(wish.engine_options, network=network, prefix="invalid engine_options value: ")
        return await self._retranscriber.request(job, wish)

    async def _own(self, job_id: str, *, client: Identity) -> Job:
        job = await self._store.get(job_id)
        if job is None or not owns(client, job):
            raise JobNotFound(job_id)
        return job

    async def _create(self, job: Job, wish: JobWish) -> Job:
        span = current_span()
        span.note({"calls.job.id": job.id, "calls.job.type": job.spec.type.value})
        job = carrying_trace(job, span)
        wish = replace(wish, input_data=with_trace(wish.input_data, span))
        try:
            with step("admission"):
                await self._entrance.enter(job)
            with step("launch"):
                return await self._launcher.launch(job, wish)
        except CreationFailed as error:
            log.warning("job.refused", detail=str(error), **failure_fields(refusal_of(str(error))))
            raise

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


def _comparable(wish: JobWish) -> str:
    """What repeated requests have to have in common, secrets included."""
    parts = ["wish", wish.type, wish.runner, wish.max_duration_s, wish.input_data]
    return json.dumps(parts, sort_keys=True)
