"""Where a job is: at which worker's door, under which name there, and what to say when nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from foundation.clock import Clock
from offloader.backends.base import Observation, Phase
from offloader.backends.celery.board import LaunchBoard
from offloader.backends.celery.doors import Door, Doors
from offloader.backends.celery.membership import HEARD_FOR_S, Membership
from offloader.backends.celery.reference import Reference
from offloader.backends.remote.client import ANSWER_S, DoorUnreachable
from offloader.errors import BackendError
from offloader.models import Workload

_UNSETTLED_S: Final = 180.0
"""So long a worker that launches nothing may not know a job that it took."""


class NotSaid(BackendError):
    """A worker answers, but does not say which jobs it has: it is launching one, or its engine is away."""


@dataclass(slots=True)
class Whereabouts:
    """Of all jobs of one backend. Lives on the event loop."""

    board: LaunchBoard
    members: Membership
    doors: Doors
    clock: Clock
    _locals: dict[str, Workload] = field(default_factory=dict)
    """Of jobs whose stored workload does not tell: what their workers call them."""
    _since_s: dict[str, float] = field(default_factory=dict)
    """Since when such a job is looked for."""

    def door(self, reference: Reference) -> Door:
        """Of the worker that has the job."""
        return self.doors.at(self._url(reference))

    async def local(self, reference: Reference) -> Workload | None:
        """What its worker calls the job; None: the worker does not know it (yet).

        Raises:
            NotSaid: the worker cannot say it now.
            DoorUnreachable: the worker cannot be asked.
        """
        if reference.local is not None:
            return reference.local
        job_id = reference.job_id
        told = self.board.outcome(job_id)
        if isinstance(told, Workload):
            return told
        if job_id not in self._locals:
            found = (await self._adopted(reference)).get(job_id)
            if found is None:
                return None
            self._locals[job_id] = found
        self._since_s.pop(job_id, None)
        return self._locals[job_id]

    async def sound(self, reference: Reference, local: Workload) -> None:
        """Before what may take long: a short question to a worker that has been silent for too long.

        Raises:
            DoorUnreachable: nobody answers at its door either.
        """
        if not self.is_lost(reference):
            return
        try:
            await self.door(reference).look(local)
        except DoorUnreachable:
            raise
        except BackendError:
            return  # somebody answered

    def unsettled(self, reference: Reference) -> Observation:
        """What to say of a job that its worker took and does not know."""
        told = self.board.outcome(reference.job_id)
        if isinstance(told, str):
            return Observation(Phase.EXITED, detail=told)
        now_s = asyncio.get_running_loop().time()
        since_s = self._since_s.setdefault(reference.job_id, now_s)
        if now_s - since_s < _UNSETTLED_S:
            return Observation(Phase.STARTING)
        detail = f"worker {reference.worker} took it and knows nothing of it"
        return Observation(Phase.LOST, detail=detail)

    def unreachable(
        self, reference: Reference, last: Observation | None, error: DoorUnreachable
    ) -> Observation:
        """What to say of a job at whose worker's door nobody answers; `last`: what was seen before.

        Raises:
            DoorUnreachable: nothing can be said now.
        """
        unheard_s = self.members.unheard_s(self._url(reference))
        if self.is_lost(reference):
            since = "this service started"
            if unheard_s is not None:
                moment = self.clock.utc_now() - timedelta(seconds=unheard_s)
                since = f"{moment:%Y-%m-%d %H:%M:%S} UTC"
            return Observation(
                Phase.LOST,
                unpublished=True,
                detail=f"its worker {reference.worker} has not been heard of since {since}; "
                "its files are on that host",
            )
        if last is not None and unheard_s is not None and unheard_s < HEARD_FOR_S:
            return replace(last, stale=True)
        raise error

    def is_lost(self, reference: Reference) -> bool:
        """Its worker answers neither at its door nor over the broker, which answers."""
        return self.members.silent_s(self._url(reference)) >= HEARD_FOR_S

    def forget(self, job_id: str) -> None:
        """The job is removed."""
        self._locals.pop(job_id, None)
        self._since_s.pop(job_id, None)

    async def _adopted(self, reference: Reference) -> Mapping[str, Workload]:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self.door(reference).backend.adopt()
        except TimeoutError as error:
            raise DoorUnreachable(f"worker {reference.worker} does not answer in time") from error
        except DoorUnreachable:
            raise
        except BackendError as error:
            self._since_s.pop(reference.job_id, None)
            raise NotSaid(str(error)) from error

    def _url(self, reference: Reference) -> str:
        return self.members.url_of(reference.worker, reference.url)
