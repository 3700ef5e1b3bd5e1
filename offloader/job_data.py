"""What is kept here of a call, a channel or a person: found, deleted, held.

Call and channel are in what a job was asked for. Who took part is told by its files alone: by the names of
captures, and by the people in tracks' and transcripts' lists. Where those are gone, nobody's data is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

CALL: Final = "call"
KEYS: Final = {CALL: ("post_id", "recording_id", "transcription_id"), "channel": ("call_id",)}
"""What of `input_data` names a call, and what its channel (calls-plugin.md 1 and 6). The first of a kind that
any job has the ID in decides: a post's ID never takes a job along whose client wrote it elsewhere."""
_POST: Final = "post_id"
USER: Final = "user"
IN_FILES: Final = "files"
"""Where a person was found: names and lists of the files that a job left."""
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
    matched: str = ""
    """Where in all of `jobs` the ID is: the member of `input_data`, or `files`. Empty: there are none."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Counts of other jobs that somebody may take for the subject's, by where the ID is in them; under
    `post_id` those of the same calls, when a recording or a transcription was named."""


class JobData:
    """One per process. Every method raises StoreError."""

    def __init__(self, *, store: JobStore, lost: LostJobs, removal: Removal) -> None:
        self._store = store
        self._lost = lost
        self._removal = removal

    async def find(self, subject: Subject) -> Found:
        """Everything of the subject."""
        if subject.kind != USER:
            return await self._named(subject)
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
        return Found(took_part, unsearched, erased, IN_FILES if took_part else "")

    async def delete(self, subject: Subject) -> tuple[Found, dict[str, str]]:
        """Delete what is found, whole jobs; also what became of each: `deleted`, `waiting` (out of reach now,
        removed later), `running`, `held`."""
        found = await self.find(subject)
        return found, {job.id: await self._deleted(job) for job in found.jobs}

    async def hold(self, subject: Subject, hold: str) -> tuple[Found, dict[str, str]]:
        """Keep what is found from every sweep and deletion; `held`, or `being deleted`: it is too late."""
        return await self._changed(subject, partial(held, hold=hold))

    async def release(self, subject: Subject) -> tuple[Found, dict[str, str]]:
        """The sweeps may have it again: `released`."""
        return await self._changed(subject, released)

    async def _named(self, subject: Subject) -> Found:
        """Those with exactly this ID in the one member that decides."""
        having: dict[str, list[Job]] = {key: [] for keys in KEYS.values() for key in keys}
        async for job in self._all():
            for key, jobs in having.items():
                if job.spec.input_data.get(key) == subject.id:
                    jobs.append(job)
        matched = next((key for key in KEYS[subject.kind] if having[key]), "")
        found = having.get(matched, [])
        taken = {job.id for job in found}
        left_out = Counter(
            {key: sum(job.id not in taken for job in jobs) for key, jobs in having.items()}
        )
        if subject.kind == CALL and matched not in ("", _POST):
            calls = {_call_of(job) for job in found if job.spec.input_data.get(_POST)}
            async for job in self._all():
                left_out[_POST] += job.id not in taken and _call_of(job) in calls
        return Found(found, matched=matched, left_out=+left_out)

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

    async def _changed(
        self, subject: Subject, step: Callable[[Job], Job]
    ) -> tuple[Found, dict[str, str]]:
        """What was found, as it is now."""
        found = await self.find(subject)
        jobs: list[Job] = []
        outcomes: dict[str, str] = {}
        for job in found.jobs:
            try:
                changed = await self._store.change(job.id, step)
            except JobNotFound:
                jobs.append(job)
                outcomes[job.id] = "deleted"
                continue
            jobs.append(changed)
            outcomes[job.id] = _state(changed)
            log.info("job.hold_changed", job_id=job.id, held=bool(changed.hold))
        return replace(found, jobs=jobs), outcomes


def _state(job: Job) -> str:
    if job.deletion_at is not None:
        return "being deleted"
    return "held" if job.hold else "released"


def _call_of(job: Job) -> tuple[str, object]:
    """A client's post: another client's of the same ID is another call."""
    return job.client_id, job.spec.input_data.get(_POST)


def _is_capture(file: Artifact) -> bool:
    """What the transcriber writes of each speaker is called by the user's ID."""
    return PurePosixPath(file.name).suffix in (".index", ".capture")
