"""The configured backend, and what one before it has left: the admin has changed `jobs.api_type`.

A workload says which backend made it, and goes to no other: what another one made looks like something of its
own that is gone, or like nothing at all. Job directories of this host (docs/job-contract.md 6) are worked on
whatever is configured now, those of its worker too. What is anywhere else stays there, out of reach, and
is said to be so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from offloader.backends.base import (
    Artifact,
    Backend,
    LaunchRequest,
    Observation,
    Phase,
    Places,
    Rescued,
)
from offloader.backends.process_reference import BACKEND as DIRECTORIES
from offloader.backends.process_reference import own_directory
from offloader.backends.registry import create_backend
from offloader.backends.retuned import Retuned
from offloader.backends.strangers import as_known_to, on_its_host
from offloader.errors import BackendError, FormerBackend
from offloader.models import JobType, Workload
from offloader.settings import JobsSettings


class WithFormer:
    """See `Backend`. Of a workload that is out of reach `poll` tells `former`; everything else raises
    FormerBackend."""

    def __init__(self, own: Backend, *, settings: JobsSettings, environ: Mapping[str, str]) -> None:
        """`own`: the one that `settings` name."""
        self._own = own
        self._settings = settings
        self._environ = environ
        self._ca: bytes | None = None
        self._directories: Backend | None = own if own.name == DIRECTORIES else None
        """Made when it is needed first."""
        self.name = own.name
        self.ends_with_service = own.ends_with_service

    def retune(self, jobs: JobsSettings) -> None:
        """See `Retuned`."""
        self._settings = jobs
        for backend in self._both():
            if isinstance(backend, Retuned):
                backend.retune(jobs)

    def trust(self, ca: bytes) -> None:
        """See `Retuned`."""
        self._ca = ca
        for backend in self._both():
            if isinstance(backend, Retuned):
                backend.trust(ca)

    async def prepare(self, runners: Sequence[str]) -> None:
        await self._own.prepare(runners)

    async def launch(self, request: LaunchRequest) -> Workload:
        return await self._own.launch(request)

    async def poll(self, workload: Workload) -> Observation:
        try:
            backend, known = await self._of(workload)
        except FormerBackend as error:
            # Nobody can say that it published: what is taken for published is deleted.
            return Observation(Phase.LOST, detail=str(error), unpublished=True, former=True)
        return await backend.poll(known)

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        backend, known = await self._of(workload)
        await backend.stop(known, grace_s=grace_s)

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        backend, known = await self._of(workload)
        async for chunk in backend.logs(known, tail_bytes=tail_bytes):
            yield chunk

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        backend, known = await self._of(workload)
        async for chunk in backend.follow(known):
            yield chunk

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        backend, known = await self._of(workload)
        return await backend.artifacts(known)

    async def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        backend, known = await self._of(workload)
        async for chunk in backend.read_artifact(known, name, start=start):
            yield chunk

    async def remove(self, workload: Workload) -> None:
        backend, known = await self._of(workload)
        await backend.remove(known)

    async def erase(self, workload: Workload) -> None:
        backend, known = await self._of(workload)
        await backend.erase(known)

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        backend, known = await self._of(workload)
        return await backend.salvage(known, job_type=job_type, variables=variables)

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        try:
            backend, known = await self._of(workload)
        except FormerBackend:
            backend, known = self._own, as_known_to(self._own.name, workload, job_type)
        return await backend.rescue(known, job_type=job_type, result=result, variables=variables)

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        backend, known = await self._of(workload)
        return await backend.retranscribe(known, job_type=job_type, variables=variables)

    async def lower(self, workload: Workload) -> None:
        backend, known = await self._of(workload)
        await backend.lower(known)

    async def place(self) -> str:
        return await self._own.place()

    async def places(self) -> Places | None:
        return await self._own.places()

    async def workers(self) -> Mapping[str, bool] | None:
        return await self._own.workers()

    async def check_usable(self) -> None:
        await self._own.check_usable()

    async def free_disk_bytes(self) -> int | None:
        return await self._own.free_disk_bytes()

    async def adopt(self) -> Mapping[str, Workload]:
        return await self._own.adopt()

    async def aclose(self) -> None:
        for backend in self._both():
            await backend.aclose()

    async def _of(self, workload: Workload) -> tuple[Backend, Workload]:
        """Who reaches it, and as what. Raises FormerBackend: nobody here."""
        if workload.backend == self._own.name:
            return self._own, workload
        try:
            known = on_its_host(workload)
            if known is None or known.backend != DIRECTORIES:
                raise FormerBackend(workload.backend, self._own.name)
            jobs_dir = self._settings.process.jobs_dir
            directory = await asyncio.to_thread(own_directory, known, jobs_dir)
            there = await asyncio.to_thread(Path.is_dir, directory)
            backend = self._directories or self._open_directories()
        except FormerBackend:
            raise
        except (BackendError, KeyError) as error:
            raise FormerBackend(workload.backend, self._own.name, str(error)) from error
        if not there:
            raise FormerBackend(workload.backend, self._own.name, f"there is no {directory}")
        return backend, known

    def _open_directories(self) -> Backend:
        """Raises BackendError: jobs cannot have the user that the settings name."""
        settings = replace(self._settings, api_type=DIRECTORIES)
        self._directories = create_backend(settings, environ=self._environ)
        if self._ca is not None and isinstance(self._directories, Retuned):
            self._directories.trust(self._ca)
        return self._directories

    def _both(self) -> Sequence[Backend]:
        if self._directories is None or self._directories is self._own:
            return (self._own,)
        return (self._own, self._directories)
