"""Transcripts made again from the audio that a job kept: asked for here, run among the work after calls.

The wish is stored with the job; whichever replica watches over the job's files starts it when there is room
in the class of post-call work (`jobs.post_call_slots`), and sees it end. Results are files of the job.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Final, TypeVar

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader import retranscription_steps as steps
from offloader.backends.base import Backend, Phase
from offloader.backends.environment import job_environment
from offloader.complaints import Complaints
from offloader.errors import BackendError, InvalidJob, LaunchFailed, NotRetranscribable
from offloader.models import (
    Job,
    JobType,
    Publication,
    Retranscription,
    RetranscriptionState,
    Workload,
)
from offloader.outbox_steps import entry_of, site_url_of
from offloader.retranscription_wish import AZURE, OPENAI, RetranscriptionWish, name_of
from offloader.secrets import MASK
from offloader.store.base import JobStore, SecretStore

T = TypeVar("T")

_TAIL_BYTES: Final = 16 * 1024
_STOP_GRACE_S: Final = 10.0
_STOPPED: Final = "stopped on request"
_DEFECT: Final = "this service could not begin it: its log says why (retranscription.job_failed)"
_COMPLAIN_EVERY_NS: Final = 60_000_000_000
_VOICE: Final = re.compile(r"[^/]+/(artifacts/audio/)?[^/]+\.ogg\.index")
_NOT_TOLD: Final = re.compile(r"AUTH_TOKEN.*|LIVE_CAPTIONS_.*|RETRANSCRIPTION.*")
_KEEPS: Final = (
    "start transcriptions with keep_audio = true in input_data "
    "(MM_CALLS_TRANSCRIBER_KEEP_AUDIO=true in the plugin's environment), and set jobs.keep_published"
)

log = get_logger()


class Retranscriber:
    """One per process; `request` by clients, `check` by the supervisor's task."""

    def __init__(
        self, *, store: JobStore, backend: Backend, secrets: SecretStore, clock: Clock, slots: int
    ) -> None:
        """`slots`: of work after calls at a time, outbox and jobs after their calls included."""
        self._store = store
        self._backend = backend
        self._secrets = secrets
        self._clock = clock
        self._slots = max(slots, 1)
        self._complaints = Complaints(clock, every_ns=_COMPLAIN_EVERY_NS)
        """When it was last said of a job that its run cannot be looked at or started."""

    def retune(self, *, slots: int) -> None:
        """So many at a time from now on; what runs goes on."""
        self._slots = max(slots, 1)

    async def request(self, job: Job, wish: RetranscriptionWish) -> Job:
        """Keep the wish; returns the job as it is then. The same wish again changes nothing while it is
        under way, and afterwards only does what is not done yet.

        Raises:
            InvalidJob: the wish cannot be.
            NotRetranscribable: the job runs, kept no audio, or another wish is under way; or nobody knows
                a token to publish with.
        """
        data = job.spec.input_data
        wish.check(data)
        options = wish.variables(data)
        if job.spec.type is not JobType.TRANSCRIBING:
            raise NotRetranscribable(f"job {job.id} is a recording: transcribing jobs keep audio")
        if job.live:
            raise NotRetranscribable(f"job {job.id} is still running")
        kept = dict(await self._secrets.variables(job.id)) | wish.secret_variables()
        by_service = wish.engine_of(data) in (AZURE, OPENAI)
        service = self._secrets.fingerprint(kept) if by_service and kept else ""
        name = name_of(options, service=service)
        present = job.retranscription
        if present is not None and present.under_way:
            if (present.name, present.publish) == (name, wish.publish):
                return job
            raise NotRetranscribable(f"job {job.id} is being transcribed again already")
        if not await self._has_audio(job):
            raise NotRetranscribable(f"job {job.id} kept no audio: {_KEEPS}")
        if wish.engine in (AZURE, OPENAI) and not kept:
            raise InvalidJob(
                f"invalid engine_options value: should hold the options of {wish.engine}, "
                "which the job itself was not given"
            )
        if wish.publish:
            await self._see_to_token(job, wish.auth_token)
        if wish.engine_options:
            await self._secrets.put_variables(job.id, kept)
        now = self._clock.utc_now()
        wanted = Retranscription(name, options, wish.publish, requested_at=now)
        asked = await self._store.change(job.id, partial(steps.asked, wanted=wanted))
        log.info("retranscription.asked", job_id=job.id, name=name, publish=wish.publish)
        return asked

    async def check(self, wanted: Sequence[Job] | None = None, *, start: bool = True) -> None:
        """Look at everything that waits or runs once; what goes wrong with one job is no other's business.

        `wanted`: what this replica watches over; None: there is no other. `start`: False while the service
        drains.

        Raises:
            StoreError: nothing can be noted of any job.
        """
        if wanted is None:
            wanted = await self._store.retranscribing()
        for job in wanted:
            if job.retranscribing_now:
                await self._alone(job, self._look_at(job))
            elif (wish := job.retranscription) is not None and wish.stop:
                await self._alone(job, self._failed(job, wish, _STOPPED))
        waiting = [
            (wish.requested_at, job)
            for job in wanted
            if (wish := job.retranscription) is not None
            and not (job.retranscribing_now or wish.stop)
        ]
        if not (waiting and start):
            return
        free = self._slots - await self._busy()
        first_come = sorted(waiting, key=lambda pair: pair[0])
        for _, job in first_come[: max(free, 0)]:
            wish = job.retranscription
            if await self._alone(job, self._begin(job)) is None and wish is not None:
                # Else it would come first for ever, before all others.
                await self._alone(job, self._failed(job, wish, _DEFECT))

    async def host_lost(self, job: Job) -> None:
        """Nobody can look at it or begin it any more: its host is gone, and its files are there."""
        wish = job.retranscription
        assert wish is not None
        detail = f"its host {job.host} is gone; ask again when that is back"
        await self._alone(job, self._failed(job, wish, detail))

    async def _alone(self, job: Job, work: Awaitable[T]) -> T | None:
        """See `Complaints.alone`."""
        return await self._complaints.alone("retranscription.job_failed", job.id, work)

    async def _begin(self, listed: Job) -> bool:
        """Whether it is to run now. It is looked at again: the outbox may have begun to work on its files in
        this very round, and another replica on the wish."""
        job = await self._store.get(listed.id)
        if (
            job is None
            or not job.retranscribing
            or job.retranscribing_now
            or entry_of(job).publication is Publication.RUNNING
        ):
            return False
        await self._start(job)
        return True

    async def _busy(self) -> int:
        """Places of work after calls that are taken, on all replicas."""
        after_call = sum(job.post_call for job in await self._store.live())
        again = sum(job.retranscribing_now for job in await self._store.retranscribing())
        publishing = sum(self._publishes(job) for job in await self._store.unpublished())
        return after_call + again + publishing

    def _publishes(self, job: Job) -> bool:
        """An attempt of a former backend may be under way for ever, out of reach (`offloader.outbox`)."""
        entry = entry_of(job)
        ours = entry.workload is not None and entry.workload.backend == self._backend.name
        return entry.publication is Publication.RUNNING and ours

    async def _has_audio(self, job: Job) -> bool:
        if job.workload is None:
            return False
        try:
            files = await self._backend.artifacts(job.workload)
        except BackendError as error:  # it has no way to the files; its text says why
            raise NotRetranscribable(str(error)) from error
        return any(_VOICE.fullmatch(file.name) for file in files)

    async def _see_to_token(self, job: Job, given: str) -> None:
        site_url = site_url_of(job)
        if given:
            await self._secrets.put_secret(
                job.id, job.client_id, site_url, given, registration=job.registration
            )
        elif await self._newest_token(job) is None:
            raise NotRetranscribable("no token is known for the job's site: send auth_token")

    async def _newest_token(self, job: Job) -> str | None:
        return await self._secrets.newest_secret(
            job.client_id, site_url_of(job), registration=job.registration
        )

    async def _start(self, job: Job) -> None:
        wish = job.retranscription
        assert wish is not None
        assert job.workload is not None
        try:
            variables = await self._variables(job, wish)
            workload = await self._backend.retranscribe(
                job.workload, job_type=job.spec.type, variables=variables
            )
        except LaunchFailed as error:
            await self._failed(job, wish, str(error))
            return
        except BackendError as error:
            # It can do so later: an engine that is down, or the run of a service that was killed before it
            # could store it. What that one does need not be done again.
            self._complain("retranscription.waits", job, error)
            return
        self._complaints.settled(job.id)
        started = await self._store.change(
            job.id, partial(steps.started, wish=wish, workload=workload)
        )
        if started.retranscription is None or started.retranscription.workload != workload:
            # Stopped, or another replica's, since it was looked at.
            await self._stop(job, workload)
            return
        log.info("retranscription.started", job_id=job.id, name=wish.name)

    async def _variables(self, job: Job, wish: Retranscription) -> dict[str, str]:
        """The job's own, with what is wished; what was masked is not among them."""
        own = {
            name: text
            for name, text in job_environment(job.spec.input_data).variables.items()
            if MASK not in text and not _NOT_TOLD.fullmatch(name)
        }
        result = own | dict(await self._secrets.variables(job.id)) | dict(wish.options)
        result["RETRANSCRIPTION"] = wish.name
        if wish.publish:
            token = await self._newest_token(job)
            result |= {"AUTH_TOKEN": token or "", "RETRANSCRIPTION_PUBLISH": "true"}
        return result

    async def _look_at(self, job: Job) -> None:
        wish = job.retranscription
        assert wish is not None
        assert wish.workload is not None
        try:
            observation = await self._backend.poll(wish.workload)
            if observation.phase in (Phase.STARTING, Phase.RUNNING):
                if wish.stop:
                    await self._backend.stop(wish.workload, grace_s=_STOP_GRACE_S)
                self._complaints.settled(job.id)
                return
            # Of what a former backend has, nothing is to be had.
            tail = b"" if observation.former else await self._tail_of(wish.workload)
        except BackendError as error:
            self._complain("retranscription.unknown", job, error)
            return
        done = observation.exit_code == 0
        state = RetranscriptionState.DONE if done else RetranscriptionState.FAILED
        detail = steps.told(tail, publish=wish.publish) if done else steps.reason(tail, observation)
        if wish.stop and not done:
            detail = _STOPPED
        await self._end(job, wish, state, detail=detail, exit_code=observation.exit_code)

    async def _tail_of(self, workload: Workload) -> bytes:
        chunks = self._backend.logs(workload, tail_bytes=_TAIL_BYTES)
        return b"".join([chunk async for chunk in chunks])

    async def _stop(self, job: Job, workload: Workload) -> None:
        try:
            await self._backend.stop(workload, grace_s=_STOP_GRACE_S)
        except BackendError as error:
            log.error("retranscription.not_stopped", job_id=job.id, error=str(error))

    def _complain(self, event: str, job: Job, error: BackendError) -> None:
        """What is looked at every second is one event."""
        if self._complaints.due(job.id):
            log.error(event, job_id=job.id, error=str(error))

    async def _failed(self, job: Job, wish: Retranscription, detail: str) -> None:
        await self._end(job, wish, RetranscriptionState.FAILED, detail=detail)

    async def _end(
        self,
        job: Job,
        wish: Retranscription,
        state: RetranscriptionState,
        *,
        detail: str,
        exit_code: int | None = None,
    ) -> None:
        """Unless another replica was faster, or the wish is another one by now."""
        self._complaints.settled(job.id)
        now = self._clock.utc_now()
        step = partial(
            steps.ended, wish=wish, state=state, detail=detail, exit_code=exit_code, now=now
        )
        ended = await self._store.change(job.id, step)
        if ended.retranscription is None or ended.retranscription.ended_at != now:
            return
        log.info(
            "retranscription.ended",
            job_id=job.id,
            name=wish.name,
            state=state.value,
            exit_code=exit_code,
            detail=detail,
        )
