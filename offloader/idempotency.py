"""`Idempotency-Key`: a repeated `POST /jobs` gets the first answer, also while the first is in progress.

A key is bound to its job before that job is created, so that of two requests, on whichever replica, one
creates and the other waits. Only success is remembered: a refused request may be tried again under its key.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from offloader.errors import CreationFailed, IdempotencyMismatch
from offloader.job_traces import untraced
from offloader.models import UNMARKED, Job, JobSpec, JobState, StopReason
from offloader.secrets import masked
from offloader.store.base import AnswerStore, JobStore

_LOOK_EVERY_S: Final = 0.25
_PATIENCE_S: Final = 60.0
"""How long another process may take to make the job it announced: more than its wait for a place."""


@dataclass(frozen=True, slots=True)
class _Running:
    job: Job
    answer: asyncio.Future[Job]


class Repeats:
    """One per process. Lives on the event loop."""

    def __init__(self, *, answers: AnswerStore, jobs: JobStore) -> None:
        self._answers = answers
        self._jobs = jobs
        self._running: dict[tuple[str, str, str], _Running] = {}
        """By client, registration and key."""

    async def once(
        self,
        key: str,
        job: Job,
        create: Callable[[], Awaitable[Job]],
        *,
        former: Sequence[str] = (),
    ) -> Job:
        """The job of this key, as it was answered first: `create()`, or an earlier request's. `former`: what
        the job's `wish_hash` would be under older secret keys.

        Raises:
            IdempotencyMismatch: the earlier request asked for something else.
            Whatever `create` raises, to everybody who waits for it.
        """
        slot = (job.client_id, job.registration, key)
        running = self._running.get(slot)
        if running is not None:
            _check_same(running.job, job, former)
            return await asyncio.shield(running.answer)
        answer: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._running[slot] = _Running(job, answer)
        try:
            created = await self._first((job.client_id, key), job, create, former)
        except BaseException as error:
            ending = CreationFailed("the service is shutting down")
            answer.set_exception(error if isinstance(error, Exception) else ending)
            answer.exception()  # somebody may wait for it, or nobody
            raise
        else:
            answer.set_result(created)
            return created
        finally:
            del self._running[slot]

    async def _first(
        self,
        slot: tuple[str, str],
        job: Job,
        create: Callable[[], Awaitable[Job]],
        former: Sequence[str],
    ) -> Job:
        give_up_s = asyncio.get_running_loop().time() + _PATIENCE_S
        while (bound := await self._answers.remember_answer(*slot, job.id)) != job.id:
            earlier = await self._jobs.get(bound)
            late = asyncio.get_running_loop().time() >= give_up_s
            if earlier is not None and earlier.registration not in (job.registration, UNMARKED):
                late = True  # somebody else's, who had this name
            elif earlier is not None and (late or earlier.state is not JobState.PENDING):
                _check_same(earlier, job, former)
                if earlier.stop_reason is not StopReason.START_FAILED:
                    return replace(earlier, stopped_at=None, output_data={})
                late = True
            if late:
                # Whoever bound it ended before the job came to be, or the job's record is deleted.
                await self._answers.forget_answer(*slot, bound)
            else:
                await asyncio.sleep(_LOOK_EVERY_S)
        try:
            return await create()
        except BaseException:
            await asyncio.shield(self._answers.forget_answer(*slot, job.id))
            raise


def _check_same(earlier: Job, now: Job, former: Sequence[str]) -> None:
    if earlier.wish_hash and now.wish_hash:
        same = any(
            hmac.compare_digest(earlier.wish_hash, each) for each in (now.wish_hash, *former)
        )
    else:  # stored by an earlier release; the trace that a job is part of is its first request's
        same = _comparable(earlier) == _comparable(now)
    if not same:
        raise IdempotencyMismatch


def _comparable(job: Job) -> JobSpec:
    """As this release would have stored it: an earlier one showed more of it."""
    spec = untraced(job.spec)
    return replace(spec, input_data=masked(spec.input_data))
