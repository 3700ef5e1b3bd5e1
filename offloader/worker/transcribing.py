"""Transcription after the call as its own stage, wired for one worker: what it owns and what it takes.

A worker may do either without the other: own tracks of its jobs (`jobs.celery.transcribe_stage`), and
transcribe anybody's (`worker.transcribe_slots`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from fastapi import APIRouter

from foundation.logs import get_logger
from offloader.backends.base import Backend, LaunchRequest
from offloader.backends.cgroup import JobGroups
from offloader.backends.cpu_priority import POST_CALL
from offloader.backends.process import ProcessBackend
from offloader.backends.process_launch import Launcher
from offloader.models import JobType
from offloader.settings import Settings
from offloader.store.secret_key import Cipher
from offloader.worker.house import Lanes
from offloader.worker.lanes import Lane
from offloader.worker.transcribing_client import OwnersDoor
from offloader.worker.transcribing_door import task_routes
from offloader.worker.transcribing_messages import (
    TRANSCRIBE_TASK,
    TrackOffer,
    transcribe_queue,
    transcribe_queues,
)
from offloader.worker.transcribing_owner import TrackOwner
from offloader.worker.transcribing_program import TrackProgram
from offloader.worker.transcribing_taker import TrackTaker

LANE: Final = "transcribe"
_DIRECTORY: Final = ".tracks"
"""Below jobs_dir: the same disk, and no job's name."""

log = get_logger()


class Publisher(Protocol):
    """`offloader.backends.celery.broker.Broker`."""

    async def publish(self, job_id: str, sealed: str, *, queue: str, task: str) -> None:
        """Raises BackendError."""


class TrackLanes(Lanes, Protocol):
    """`offloader.worker.celery_thread.CeleryThread`."""

    async def closed(self, name: str) -> None:
        """No message comes any more."""


class TranscribeStage:
    """Lives on the event loop. `begin`, `attach` to the lanes, `run`, `drain`, `aclose` in the end."""

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str],
        url: str,
        backend: Backend,
        publisher: Publisher,
        cipher: Cipher,
        tls: ssl.SSLContext | None,
    ) -> None:
        """`url`: of this worker's door. `backend`: of its jobs. `tls`: whom to trust; None: as usual."""
        self._settings = settings
        self._url = url
        self._backend = backend
        self._publisher = publisher
        self._cipher = cipher
        self._lanes: TrackLanes | None = None
        self._draining = False
        directory = settings.jobs.process.jobs_dir / _DIRECTORY / settings.worker.name
        self.owner = TrackOwner(directory / "owned", cipher=cipher, offer=self._offer)
        self._owners = OwnersDoor(cipher=cipher, worker=settings.worker.name, tls=tls)
        self.taker = TrackTaker(
            directory / "taken",
            slots=settings.worker.transcribe_slots,
            program=TrackProgram(
                settings.jobs.process.transcriber_command,
                variables=Launcher(settings.jobs.process, environ=environ).fixed_variables(
                    JobType.TRANSCRIBING, directory / "taken"
                ),
                memory_max_bytes=settings.jobs.process.memory_max_bytes,
                make_group=self._group,
            ),
            owners=self._owners,
            cipher=cipher,
            changed=self._changed,
            closed=self._closed,
        )

    @property
    def router(self) -> APIRouter:
        """For the door; it looks at tokens itself."""
        return task_routes(self.owner)

    @property
    def lanes(self) -> list[Lane]:
        """One, or none where this worker transcribes nothing of others."""
        worker = self._settings.worker
        if not worker.transcribe_slots:
            return []
        prefix = self._settings.jobs.celery.queue_prefix
        queues = transcribe_queues(prefix, worker.labels, only_labelled=worker.only_labelled)
        return [Lane(LANE, TRANSCRIBE_TASK, queues, self.taker.take, worker.transcribe_slots)]

    def prepare(self, request: LaunchRequest) -> LaunchRequest:
        """What a transcribing job of this worker has to know; clients cannot (`job_environment`)."""
        wanted = self._settings.jobs.celery.transcribe_stage
        if request.job_type is not JobType.TRANSCRIBING or not wanted:
            return request
        told = self.owner.variables(request.job_id, url=self._url)
        return replace(request, added={**request.added, **told})

    def attach(self, lanes: TrackLanes) -> None:
        """Messages may come from now on."""
        self._lanes = lanes
        self._changed()

    async def begin(self) -> None:
        """Take up what an earlier process of this worker left; before the first message and request."""
        await asyncio.to_thread(self.taker.clear)
        await self.owner.restore()

    async def run(self) -> None:
        """Until cancelled."""
        await self.owner.run()

    async def drain(self, *, hurry: asyncio.Event) -> None:
        """Take no more; return when no track is at work. At once with `hurry`, and where jobs outlive the
        worker: others do it then."""
        self._draining = True
        self._changed()
        if not self._backend.ends_with_service:
            return
        ending = [
            asyncio.create_task(self.taker.until_idle(), name="tracks"),
            asyncio.create_task(hurry.wait(), name="hurry"),
        ]
        try:
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ending:
                task.cancel()

    async def aclose(self) -> None:
        """Give up what is at work, let go of the connections."""
        await self.taker.aclose()
        await self._owners.aclose()

    async def _offer(self, job_id: str, track: str) -> None:
        """Raises BackendError."""
        celery = self._settings.jobs.celery
        label = celery.labels.get(JobType.TRANSCRIBING, "")
        await self._publisher.publish(
            job_id,
            TrackOffer(self._url, track).sealed(self._cipher, job_id),
            queue=transcribe_queue(celery.queue_prefix, label),
            task=TRANSCRIBE_TASK,
        )

    def _changed(self) -> None:
        if self._lanes is not None and self.lanes:
            room = self.taker.has_room and not self._draining
            (self._lanes.open if room else self._lanes.close)(LANE)

    async def _closed(self) -> None:
        if self._lanes is not None:
            await self._lanes.closed(LANE)

    def _group(self, name: str) -> Path | None:
        """In the worker's own group a track would come before live calls. Blocks."""
        groups: JobGroups | None = None
        if isinstance(self._backend, ProcessBackend):
            groups = self._backend.groups
        with suppress(OSError):
            return groups.make(f"track-{name}", POST_CALL) if groups is not None else None
        log.warning("track.no_group", name=name)
        return None
