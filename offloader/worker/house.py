"""The state of a worker: which jobs it has, what it may still take, what it says of itself."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

from foundation.logs import get_logger
from offloader.backends.base import Backend, Phase
from offloader.backends.remote.wire import WorkerCard
from offloader.errors import BackendError
from offloader.models import JobType, Workload
from offloader.setting_celery import WorkerSettings
from offloader.version import BUILD_VERSION
from offloader.worker.books import Books

ROUND_S: Final = 1.0
_LOOK_EVERY: Final = 5
"""Rounds between two looks at the disk and at whether the backend can be used."""
_LOOK_S: Final = 5.0
_TELL_S: Final = 15.0
"""So long a draining worker waits until the service knows of an end; that one looks once a second."""
_LAST_WORDS_S: Final = 1.0
"""It reads the log then."""
_MOST_UNTOLD: Final = 100

log = get_logger()


class Lanes(Protocol):
    """Where messages come from; see `CeleryThread`."""

    def open(self, name: str) -> None:
        """Take them."""

    def close(self, name: str) -> None:
        """Take no more."""


class House:
    """Lives on the event loop; `card` may be read in any thread. `run` until cancelled."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        url: str,
        backend: Backend,
        books: Books,
        min_free_disk_bytes: int | None = None,
    ) -> None:
        """`url`: of this worker's door. With less than `min_free_disk_bytes` free it takes nothing."""
        self._settings = settings
        self._url = url
        self._backend = backend
        self._books = books
        self._min_free_disk_bytes = min_free_disk_bytes
        self._lanes: Lanes | None = None
        self._draining = False
        self._unsaved = False
        self._usable = ""
        self._free_disk_bytes: int | None = None
        self._changed = asyncio.Event()
        self._untold: deque[Workload] = deque(maxlen=_MOST_UNTOLD)
        """Jobs that have ended, of which the service does not know it yet."""
        self._told: deque[Workload] = deque(maxlen=_MOST_UNTOLD)
        """Jobs of the books, of which it knows it already."""
        self.card = self._make_card()

    @property
    def jobs(self) -> int:
        """How many it has, those included whose call is over."""
        return len(self._books.entries)

    def launching(self) -> bool:
        """Whether it has taken a job of which its backend may not know yet."""
        return any(entry.workload is None for entry in self._books.entries.values())

    async def begin(self) -> None:
        """Find the jobs of an earlier worker of this host; before the first message.

        Raises:
            BackendError: they cannot be looked for.
        """
        await self._books.load()
        found = await self._backend.adopt()
        ended = [job_id for job_id, job in found.items() if await self._is_over(job)]
        self._books.adopt(found, ended)
        if self._books.entries:
            log.info("worker.adopted", jobs=sorted(self._books.entries))
        await self._books.save()
        await self._look()
        self.changed()

    def attach(self, lanes: Lanes) -> None:
        """Messages may come from now on."""
        self._lanes = lanes
        self.changed()

    def changed(self) -> None:
        """The books have changed: open and close what follows from it."""
        self.card = self._make_card()
        if self._lanes is not None:
            for job_type in JobType:
                switch = self._lanes.open if self.room(job_type) else self._lanes.close
                switch(job_type.value)
        self._changed.set()

    def room(self, job_type: JobType) -> bool:
        """Whether a job of that type may be taken now."""
        return bool(self._books.free(job_type)) and not (self._draining or self._usable)

    def lowered(self, workload: Workload) -> None:
        """The call of that job is over: its place is free."""
        if self._books.lower(workload):
            self._unsaved = True
            self.changed()

    def told(self, workload: Workload) -> None:
        """The service knows that this job has ended."""
        if workload in self._untold:
            self._untold.remove(workload)
            self._changed.set()
        elif workload not in self._told and self._books.has(workload):
            self._told.append(workload)

    async def run(self) -> None:
        """Once a second: give back the places of jobs that have ended."""
        rounds = 0
        while True:
            rounds += 1
            try:
                await self._release_ended()
                if rounds % _LOOK_EVERY == 0:
                    await self._look()
                await self._save()
            except Exception:
                log.exception("worker.round_failed")
            await asyncio.sleep(ROUND_S)

    async def drain(self, *, hurry: asyncio.Event, stop_grace_s: float) -> None:
        """Take nothing new; return when no job is left, or at once where jobs outlive the worker.

        `hurry`, set at any time: tell them to end, and have them killed after the grace.
        """
        self._draining = True
        self.changed()
        hurrying = asyncio.ensure_future(hurry.wait())
        try:
            while self._busy():
                if hurry.is_set() and self._backend.ends_with_service:
                    await self._stop_all(stop_grace_s)
                self._changed.clear()
                changing = asyncio.ensure_future(self._changed.wait())
                waiting = {changing} if hurry.is_set() else {changing, hurrying}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                changing.cancel()
        finally:
            hurrying.cancel()
        await self._last_words()

    def _busy(self) -> bool:
        """Jobs that outlive the worker are waited for only while they are being launched."""
        return self.launching() or (self._backend.ends_with_service and bool(self._books.entries))

    async def _last_words(self) -> None:
        """Keep the door open until the service knows how the last jobs ended: else it calls them lost."""
        if not self._untold:
            return
        try:
            async with asyncio.timeout(_TELL_S):
                while self._untold:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.warning("worker.ends_untold", jobs=len(self._untold))
            return
        await asyncio.sleep(_LAST_WORDS_S)

    async def _stop_all(self, grace_s: float) -> None:
        for job_id, entry in tuple(self._books.entries.items()):
            if entry.workload is None:
                continue
            try:
                await self._backend.stop(entry.workload, grace_s=grace_s)
            except BackendError as error:
                log.error("job.stop_failed", job_id=job_id, error=str(error))

    async def _release_ended(self) -> None:
        over = [
            job_id
            for job_id, entry in tuple(self._books.entries.items())
            if entry.workload is not None and await self._is_over(entry.workload)
        ]
        for job_id in over:
            log.info("job.ended", job_id=job_id)
            self._note_end(self._books.entries[job_id].workload)
            self._books.release(job_id)
        if over:
            self._unsaved = True
            self.changed()

    def _note_end(self, workload: Workload | None) -> None:
        if workload is None:
            return
        if workload in self._told:
            self._told.remove(workload)
        else:
            self._untold.append(workload)

    async def _is_over(self, workload: Workload) -> bool:
        try:
            phase = (await self._backend.poll(workload)).phase
        except BackendError as error:
            log.warning("job.poll_failed", error=str(error))
            return False
        return phase in (Phase.EXITED, Phase.LOST)

    async def _look(self) -> None:
        before = self._usable
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._backend.check_usable()
                self._free_disk_bytes = await self._backend.free_disk_bytes()
            self._usable = self._full_disk()
        except TimeoutError:
            self._usable = f"the {self._backend.name} backend does not answer"
        except BackendError as error:
            self._usable = str(error)
        if self._usable and self._usable != before:
            log.error("worker.unusable", reason=self._usable)
        self.changed()

    def _full_disk(self) -> str:
        """The service knows only how much is free on all hosts together."""
        free_bytes, least_bytes = self._free_disk_bytes, self._min_free_disk_bytes
        if free_bytes is None or least_bytes is None or free_bytes >= least_bytes:
            return ""
        return (
            f"not enough disk: {free_bytes / 2**30:.1f} GiB are free, "
            f"{least_bytes / 2**30:.1f} GiB have to stay free (jobs.min_free_disk)"
        )

    async def _save(self) -> None:
        if not self._unsaved:
            return
        self._unsaved = False
        try:
            await self._books.save()
        except BackendError as error:
            self._unsaved = True
            log.error("worker.books_not_saved", error=str(error))

    def _make_card(self) -> WorkerCard:
        settings = self._settings
        return WorkerCard(
            name=settings.name,
            url=self._url,
            version=BUILD_VERSION,
            labels=settings.labels,
            slots=settings.slots,
            recording=self._books.taken(JobType.RECORDING),
            transcribing=self._books.taken(JobType.TRANSCRIBING),
            transcribe_slots=settings.transcribe_slots,
            draining=self._draining,
            free_disk_bytes=self._free_disk_bytes,
            usable=self._usable,
            only_labelled=settings.only_labelled,
        )
