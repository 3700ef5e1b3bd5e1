"""What is kept here of a call, a channel or a person: found, deleted, held.

Call and channel are in what a job was asked for. Who took part is told by its files alone: by the names of
captures, and by the people in tracks' and transcripts' lists. Where those are gone, nobody's data is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Final

from foundation.logs import get_logger
from offloader.backends.base import Artifact
from offloader.errors import BackendError, JobIsHeld, JobIsRunning, JobNotFound
from offloader.lost_jobs import LostJobs
from offloader.models import Job
from offloader.removal import Removal, held, released
from offloader.store.base import JobStore

KEYS: Final = {"call": ("post_id", "recording_id", "transcription_id"), "channel": ("call_id",)}
"""What of `input_data` names a call, and what its channel (calls-plugin.md 1 and 6)."""
USER: Final = "user"
_PAGE: Final = 500
_LOOKS_S: Final = 20.0
"""For all files together: whoever asks waits for the answer."""
_LONGEST_LIST_BYTES: Final = 32 << 20
_LISTS: Final = frozenset({".json", ".jsonl", ".md", ".srt", ".txt", ".vtt", ".index"})
_NAMES_PEOPLE: Final = b'"user_id"'
_TOO_LATE: Final = "there was no time to look into its files: ask again by --call or --channel"

log = get_logger()


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose data."""

    kind: str
    """`call`, `channel` or `user`."""
    id: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept."""

    jobs: Sequence[Job]
    """Newest first."""
    unsearched: Sequence[tuple[str, str]] = ()
    """Jobs of which nobody can tell whether the person took part, and why."""
    erased: int = 0
    """Jobs of which only record and log are left: these name nobody."""


class JobData:
    """One per process. Every method raises StoreError."""

    def __init__(self, *, store: JobStore, lost: LostJobs, removal: Removal) -> None:
        self._store = store
        self._lost = lost
        self._removal = removal

    async def find(self, subject: Subject) -> Found:
        """Everything of the subject."""
        if subject.kind != USER:
            keys = KEYS[subject.kind]
            found = [job async for job in self._all() if _named(job, keys, subject.id)]
            return Found(found)
        took_part: list[Job] = []
        unsearched: list[tuple[str, str]] = []
        erased = 0
        give_up_s = asyncio.get_running_loop().time() + _LOOKS_S
        async for job in self._all():
            if job.workload is None or (not job.live and job.left_bytes == 0):
                erased += 1
                continue
            try:
                async with asyncio.timeout_at(give_up_s):
                    took, why_not = await self._took_part(job, subject.id)
            except TimeoutError:
                took, why_not = False, _TOO_LATE
            except BackendError as error:
                took, why_not = False, str(error)
            if took:
                took_part.append(job)
            elif why_not:
                unsearched.append((job.id, why_not))
        return Found(took_part, unsearched, erased)

    async def delete(self, subject: Subject) -> tuple[Found, dict[str, str]]:
        """Delete what is found, whole jobs; also what became of each: `deleted`, `waiting` (out of reach now,
        removed later), `running`, `held`."""
        found = await self.find(subject)
        return found, {job.id: await self._deleted(job) for job in found.jobs}

    async def hold(self, subject: Subject, hold: str) -> tuple[Found, dict[str, str]]:
        """Keep what is found from every sweep and deletion; `held`, or `being deleted`: it is too late."""
        found = await self.find(subject)
        return found, await self._changed(found, partial(held, hold=hold))

    async def release(self, subject: Subject) -> tuple[Found, dict[str, str]]:
        """The sweeps may have it again: `released`."""
        found = await self.find(subject)
        return found, await self._changed(found, released)

    async def _all(self) -> AsyncIterator[Job]:
        before: str | None = None
        while True:
            page = await self._store.list_jobs(before=before, limit=_PAGE)
            for job in page.jobs:
                yield job
            if (before := page.next) is None:
                return

    async def _took_part(self, job: Job, user_id: str) -> tuple[bool, str]:
        """Whether they did; else why that is not known, where it is not."""
        files = await self._lost.artifacts(job)
        if any(user_id in file.name for file in files):
            return True, ""
        wanted, names_people = user_id.encode(), any(_is_capture(file) for file in files)
        for file in files:
            if PurePosixPath(file.name).suffix not in _LISTS:
                continue
            tail = b""
            read_bytes = 0
            async for chunk in self._lost.read(job, file, start=0):
                text = tail + chunk
                if wanted in text:
                    return True, ""
                names_people = names_people or _NAMES_PEOPLE in text
                tail, read_bytes = text[-64:], read_bytes + len(chunk)
                if read_bytes > _LONGEST_LIST_BYTES:
                    break
        return False, "" if names_people or not files else "its files do not say who took part"

    async def _deleted(self, job: Job) -> str:
        try:
            return "deleted" if await self._removal.delete(job) else "waiting"
        except JobNotFound:
            return "deleted"
        except JobIsRunning:
            return "running"
        except JobIsHeld:
            return "held"

    async def _changed(self, found: Found, step: Callable[[Job], Job]) -> dict[str, str]:
        outcomes: dict[str, str] = {}
        for job in found.jobs:
            try:
                changed = await self._store.change(job.id, step)
            except JobNotFound:
                outcomes[job.id] = "deleted"
                continue
            outcomes[job.id] = _state(changed)
            log.info("job.hold_changed", job_id=job.id, held=bool(changed.hold))
        return outcomes


def _state(job: Job) -> str:
    if job.deletion_at is not None:
        return "being deleted"
    return "held" if job.hold else "released"


def _named(job: Job, keys: Sequence[str], wanted: str) -> bool:
    return any(job.spec.input_data.get(key) == wanted for key in keys)


def _is_capture(file: Artifact) -> bool:
    """What the transcriber writes of each speaker is called by the user's ID."""
    return PurePosixPath(file.name).suffix in (".index", ".capture")
