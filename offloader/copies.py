"""What jobs have copied elsewhere while they worked (docs/copies.md), for those whose own files are gone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Self

from foundation.copies.contents import CopyContents, look_into, read_copied
from foundation.copies.journal import JournalError, key_of, numbers_of, outline
from foundation.copies.stores import CopyStore, StoreError, open_store
from foundation.newest import keep_newest
from offloader.backends.base import Artifact
from offloader.errors import BackendError
from offloader.models import Job, JobType
from offloader.setting_groups import NetworkSettings

LOG_NAMES: Final = ("artifacts/job.log", "job.log")
"""Where a job's own log is, below its directory: after a rescue, and before."""
_DESCRIPTION: Final = "job.json"
_RESULT_KEYS: Final = {
    JobType.RECORDING: "recording_id",
    JobType.TRANSCRIBING: "transcription_id",
}
_RESULT: Final = re.compile(r"[a-z0-9]{26}")
_LOOK_S: Final = 10.0
_READ_S: Final = 60.0
_REMEMBERED: Final = 8
_HEAD_BYTES: Final = 256 << 10


def result_of(job: Job) -> str:
    """The name of the job's directory, and of its copy; empty: the client has given none that a job takes."""
    name = str(job.spec.input_data.get(_RESULT_KEYS[job.spec.type]) or "")
    return name if _RESULT.fullmatch(name) else ""


class JobCopies:
    """The copies of all jobs. Every method raises BackendError when the store cannot be asked."""

    def __init__(self, store: CopyStore) -> None:
        self._store = store
        self._seen: dict[str, CopyContents] = {}
        self._looking = asyncio.Lock()
        """One after the other: each asks for many objects at once."""

    @classmethod
    def of(cls, network: NetworkSettings) -> Self | None:
        """Those that the settings name; None: jobs copy nothing."""
        if not network.copies_url:
            return None
        return cls(open_store(network.copies_url))

    async def hold_result(self, job: Job) -> bool:
        """Is there a copy to finish the job from? Of a published one at most artifacts are left."""
        result = result_of(job)
        if not result:
            return False
        with _told(job):
            async with asyncio.timeout(_LOOK_S):
                numbers = numbers_of(await self._store.names(result))
                if not numbers:
                    return False
                # Written with the first round, and there until the post is.
                start = await self._store.start_of(key_of(result, numbers[0]), _HEAD_BYTES)
                return any(piece.name == _DESCRIPTION for piece in outline(start).pieces)

    async def artifacts(self, job: Job) -> Sequence[Artifact]:
        """The files in the copy, named as a backend names them (below DATA_DIR)."""
        result = result_of(job)
        files = (await self._contents(job)).files
        return [
            Artifact(f"{result}/{name}", file.size_bytes, f"copy-{file.version}")
            for name, file in sorted(files.items())
        ]

    async def read(self, job: Job, name: str, *, start: int = 0) -> AsyncIterator[bytes]:
        """A file that `artifacts` names, from byte `start` on.

        Raises:
            BackendError: with the first chunk: there is no such file.
        """
        result = result_of(job)
        file = (await self._contents(job)).files.get(name.removeprefix(f"{result}/"))
        if file is None:
            raise BackendError(f"no file {name!r}")
        with _told(job):
            async for chunk in read_copied(self._store, result, file, start=start):
                yield chunk

    async def erase(self, job: Job) -> None:
        """The files alone: who was to publish it has to be known as long as its record is, for the job itself
        may come back with its host (docs/copies.md)."""
        if result := result_of(job):
            with _told(job):
                async with asyncio.timeout(_READ_S):
                    await self._store.remove(result)

    async def remove(self, job: Job) -> None:
        """Everything of the job, and who was to publish it: its record goes as well."""
        result = result_of(job)
        if not result:
            return
        with _told(job):
            async with asyncio.timeout(_READ_S):
                await self._store.remove(result)
                await self._store.remove(f"{result}.publisher")

    async def _contents(self, job: Job) -> CopyContents:
        result = result_of(job)
        if not result:
            return CopyContents(0, {})
        with _told(job):
            async with asyncio.timeout(_READ_S):
                seen = self._seen.get(result)
                newest = max(numbers_of(await self._store.names(result)), default=0)
                if seen is None or seen.newest != newest:
                    async with self._looking:
                        seen = await look_into(self._store, result)
        keep_newest(self._seen, result, seen, most=_REMEMBERED)
        return seen


@contextmanager
def _told(job: Job) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise BackendError(f"the copy of job {job.id} cannot be read: no answer in time") from None
    except (StoreError, JournalError) as error:
        raise BackendError(f"the copy of job {job.id} cannot be read: {error}") from error
