"""Which jobs this worker has, and the places they hold; on disk, so that a worker that starts again knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from foundation.logs import get_logger
from offloader.backends.remote.wire import WireError, workload_document, workload_of
from offloader.backends.shim.json_file import write_json
from offloader.errors import BackendError
from offloader.models import JobType, Workload

_VERSION: Final = 1

log = get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """One job."""

    job_type: JobType | None
    """None: found on this host, and the books know nothing of it: it holds a place of each type."""
    message_id: str = ""
    """Of the message that brought it: the same message may come twice."""
    workload: Workload | None = None
    """None: its launch is under way, or was when an earlier worker ended."""
    lowered: bool = False
    """Its call is over: it holds no place any more."""

    def holds(self, job_type: JobType) -> bool:
        """Whether it has a place of that type."""
        return not self.lowered and self.job_type in (job_type, None)


class Books:
    """Lives on the event loop. Changes count at once; `save` puts them on disk."""

    def __init__(self, path: Path, *, slots: int) -> None:
        """`slots`: places for each job type."""
        self._path = path
        self._slots = slots
        self._entries: dict[str, Entry] = {}
        self._saving = asyncio.Lock()

    @property
    def entries(self) -> Mapping[str, Entry]:
        """By job ID."""
        return self._entries

    def taken(self, job_type: JobType) -> int:
        """Places of that type that are held."""
        return sum(entry.holds(job_type) for entry in self._entries.values())

    def free(self, job_type: JobType) -> int:
        """Places of that type that are left."""
        return max(self._slots - self.taken(job_type), 0)

    def reserve(self, job_id: str, job_type: JobType, *, message_id: str) -> None:
        """Take a place, of which there is a free one."""
        self._entries[job_id] = Entry(job_type, message_id)

    def launched(self, job_id: str, workload: Workload) -> None:
        """The reserved job runs."""
        self._entries[job_id] = replace(self._entries[job_id], workload=workload)

    def release(self, job_id: str) -> None:
        """It is over, or never was. Idempotent."""
        self._entries.pop(job_id, None)

    def has(self, workload: Workload) -> bool:
        """Whether it is a job of these books."""
        return any(entry.workload == workload for entry in self._entries.values())

    def lower(self, workload: Workload) -> bool:
        """A job's call is over; False: that is known, or it is no job of these books."""
        for job_id, entry in self._entries.items():
            if entry.workload == workload and not entry.lowered:
                self._entries[job_id] = replace(entry, lowered=True)
                return True
        return False

    def adopt(self, running: Mapping[str, Workload], ended: Iterable[str]) -> None:
        """What the backend has found on this host at the start; what it has not found is forgotten."""
        gone = set(ended)
        known = self._entries
        self._entries = {
            job_id: replace(known.get(job_id, Entry(None)), workload=workload)
            for job_id, workload in running.items()
            if job_id not in gone
        }

    async def load(self) -> None:
        """Read what an earlier worker knew; damaged books are as good as none: every job is looked for."""
        try:
            text = await asyncio.to_thread(self._path.read_text, encoding="utf-8")
            document = json.loads(text)
            self._entries = {job_id: _entry_of(entry) for job_id, entry in document["jobs"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("worker.books_unreadable", file=str(self._path), error=repr(error))

    async def save(self) -> None:
        """Raises BackendError: the disk refuses."""
        async with self._saving:
            jobs = {job_id: _document(entry) for job_id, entry in self._entries.items()}
            document = {"version": _VERSION, "jobs": jobs}
            try:
                await asyncio.to_thread(write_json, str(self._path), document, durable=True)
            except OSError as error:
                raise BackendError(f"{self._path}: cannot be written: {error.strerror}") from error


def _document(entry: Entry) -> dict[str, Any]:
    return {
        "type": entry.job_type.value if entry.job_type is not None else None,
        "message_id": entry.message_id,
        "workload": workload_document(entry.workload) if entry.workload is not None else None,
        "lowered": entry.lowered,
    }


def _entry_of(document: Mapping[str, Any]) -> Entry:
    try:
        workload = document["workload"]
        return Entry(
            JobType(document["type"]) if document["type"] is not None else None,
            document["message_id"],
            workload_of(workload) if workload is not None else None,
            document["lowered"],
        )
    except WireError as error:
        raise ValueError(str(error)) from error
