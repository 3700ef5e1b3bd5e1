"""From an admitted job to one that its backend runs, also when another replica sees it first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.backends.base import Backend, LaunchRequest
from offloader.errors import (
    BackendError,
    CreationFailed,
    IllegalTransition,
    JobNotFound,
    StoreError,
)
from offloader.job_wish import JobWish
from offloader.lifecycle import launched, not_started
from offloader.models import Job, JobState, Workload
from offloader.store.base import JobStore

_UNWANTED_GRACE_S: Final = 10.0
"""For a job that was launched when nobody wanted it any more: to leave its call."""

log = get_logger()


class Launcher:
    """One per process."""

    def __init__(
        self,
        *,
        store: JobStore,
        backend: Backend,
        clock: Clock,
        keep_secrets: Callable[[Job, Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """`keep_secrets`: of a launched job and its input."""
        self._store = store
        self._backend = backend
        self._clock = clock
        self._keep_secrets = keep_secrets

    async def launch(self, job: Job, wish: JobWish) -> Job:
        """The job as stored after its launch.

        Raises:
            CreationFailed: the backend refused it, or it took so long that another replica gave it up.
            StoreError: its record cannot be written.
        """
        request = LaunchRequest(
            job.id, job.spec.type, wish.runner, wish.input_data, job.spec.max_duration_s
        )
        try:
            workload = await self._backend.launch(request)
        except BackendError as error:
            started = await self._not_launched(job, error)
        else:
            try:
                started = await self._store.change(job.id, partial(launched, workload=workload))
            except (IllegalTransition, JobNotFound):
                started = await self._taken_over(job, workload)
        log.info("job.launched", job_id=job.id, type=job.spec.type.value, runner=wish.runner)
        try:
            await self._keep_secrets(started, wish.input_data)
        except StoreError as error:
            # The job runs, and has them: its start must not fail for what is only needed later.
            log.warning("job.secrets_not_kept", job_id=started.id, error=str(error))
        return started

    async def _not_launched(self, job: Job, error: BackendError) -> Job:
        """The job as another replica stored it, which found it launched after all.

        Raises:
            CreationFailed: it is not.
        """
        now = self._clock.utc_now()
        try:
            await self._store.change(job.id, partial(_still_pending, detail=str(error), now=now))
        except (IllegalTransition, JobNotFound):
            present = await self._store.get(job.id)
            if present is not None and present.live:
                return present
        log.error("job.launch_failed", job_id=job.id, error=str(error))
        raise CreationFailed(str(error)) from error

    async def _taken_over(self, job: Job, workload: Workload) -> Job:
        """The job as another replica stored it, which took this one for gone while it launched.

        Raises:
            CreationFailed: it gave the job up; what was launched since is stopped.
        """
        present = await self._store.get(job.id)
        if present is not None and present.live:
            return present
        log.error("job.launched_too_late", job_id=job.id)
        try:
            await self._backend.stop(workload, grace_s=_UNWANTED_GRACE_S)
        except BackendError as error:
            log.error("job.stop_failed", job_id=job.id, error=str(error))
        raise CreationFailed("its launch took so long that another replica gave it up")


def _still_pending(job: Job, *, detail: str, now: datetime) -> Job:
    if job.state is not JobState.PENDING:
        raise IllegalTransition(f"job {job.id} is {job.state} already")
    return not_started(job, detail=detail, now=now)
