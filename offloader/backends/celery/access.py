"""What is done with a job that a worker has: through that worker's door, by the name it goes by there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from offloader.backends.celery.membership import Membership
from offloader.backends.celery.reference import Reference
from offloader.backends.celery.whereabouts import Whereabouts
from offloader.backends.remote.client import DoorUnreachable, RemoteBackend
from offloader.errors import BackendError, FilesGone
from offloader.models import Workload


class Access:
    """To the workloads of all workers."""

    def __init__(self, members: Membership, where: Whereabouts) -> None:
        self._members = members
        self._where = where

    async def known(self, workload: Workload) -> tuple[Reference, Workload]:
        """Who has it, and what it is called there.

        Raises:
            BackendError: the worker has not told yet what it calls the job.
        """
        self._members.begin()
        reference = Reference.of(workload)
        local = await self._where.local(reference)
        if local is None:
            raise BackendError(f"worker {reference.worker} is just launching it")
        return reference, local

    async def stream(
        self, workload: Workload, read: Callable[[RemoteBackend, Workload], AsyncIterator[bytes]]
    ) -> AsyncIterator[bytes]:
        """What `read` gives; its door is in use meanwhile."""
        reference, local = await self.known(workload)
        door = self._where.door(reference)
        chunks = read(door.backend, local)
        door.streams += 1
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            door.streams -= 1
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()  # ends the request, also when nobody wants the rest

    async def begin_on_files(
        self, workload: Workload, begin: Callable[[RemoteBackend, Workload], Awaitable[Workload]]
    ) -> Workload:
        """Start something on what an ended workload left.

        Raises:
            FilesGone: its worker is lost.
            DoorUnreachable: its worker is away for a moment, as far as one can tell.
        """
        try:
            reference, local = await self.known(workload)
            door = self._where.door(reference)
            await self._where.sound(reference, local)
            try:
                made = await begin(door.backend, local)
            finally:
                door.changed()
        except DoorUnreachable as error:
            await self._members.watched()
            if not self._where.is_lost(Reference.of(workload)):
                raise
            raise FilesGone(str(error)) from error
        return reference.with_local(made).workload()
