"""The logs of jobs for whoever reads them: kept in the jobs' folders as long as their pods can tell them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from offloader.backends.kubernetes.files import JobFolders, in_threads
from offloader.backends.kubernetes.log_keeper import LogKeeper
from offloader.backends.kubernetes.observation import has_begun
from offloader.backends.kubernetes.options import Reference
from offloader.backends.kubernetes.view import ClusterView
from offloader.backends.process_files import read_log
from offloader.backends.process_output import LogFollower
from offloader.errors import BackendError

_FOLLOW_EVERY_S: Final = 0.5


class JobLogs:
    """Over the keeper, which copies them."""

    def __init__(self, *, keeper: LogKeeper, folders: JobFolders, view: ClusterView) -> None:
        self._keeper = keeper
        self._folders = folders
        self._view = view

    def keep(self, reference: Reference) -> None:
        """Have it copied from now on, if its pod has one."""
        pod = self._view.pod(reference.name)
        if pod is not None and has_begun(pod):
            self._keeper.keep(reference.name, self._folders.of(reference.name))

    async def catch_up(self, reference: Reference) -> None:
        """Before its log is read: whoever keeps it is at work, and of an ended job it is complete."""
        try:
            await self._view.watched()
        except BackendError:
            return  # what is kept can be read all the same
        self.keep(reference)
        job = self._view.known_job(reference.name)
        if job is not None and self._view.has_ended(job):
            await self._keeper.complete(reference.name)

    async def read(self, reference: Reference, *, tail_bytes: int | None) -> AsyncIterator[bytes]:
        """What there is of it, or its last `tail_bytes`."""
        await self.catch_up(reference)
        chunks = read_log(self._folders.of(reference.name), tail_bytes=tail_bytes)
        async for chunk in in_threads(chunks):
            yield chunk

    async def follow(
        self, reference: Reference, *, is_running: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """All of it, and what is added until `is_running` denies it."""
        follower = LogFollower(self._folders.of(reference.name))
        while True:
            running = await is_running()
            if not running:
                await self.catch_up(reference)
            while chunk := await asyncio.to_thread(follower.read):
                yield chunk
            if not running:
                return
            await asyncio.sleep(_FOLLOW_EVERY_S)
