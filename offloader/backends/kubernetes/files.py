"""The folders of the jobs: their logs, and with the claim in reach their files.

Laid out as those of process jobs (docs/job-contract.md 6), so that the same functions read them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

from offloader.backends.kubernetes.manifest import JOB_UID
from offloader.backends.kubernetes.options import KubernetesOptions, Reference
from offloader.errors import BackendError, FilesOutOfReach, LaunchFailed


class JobFolders:
    """Where everything lies. What is not asynchronous does not block."""

    def __init__(self, options: KubernetesOptions) -> None:
        self._options = options

    @property
    def hold_files(self) -> bool:
        """This service sees what the jobs write."""
        return self._options.kubernetes.claim_dir is not None

    def of(self, name: str) -> Path:
        """The folder of a Job."""
        return self._options.files_dir / name

    def data(self, reference: Reference) -> Path:
        """The job's files. Raises BackendError when they are out of reach."""
        settings = self._options.kubernetes
        if settings.claim_dir is not None:
            return self.of(reference.job_name) / "data"
        self.check_reached(reference)
        raise BackendError(
            f"the files of {reference.name} were on its pod's emptyDir and went with it: set "
            "jobs.kubernetes.persistent_volume_claim_name to keep them, or jobs.copies_url"
        )

    def check_reached(self, reference: Reference) -> None:
        """Raises FilesOutOfReach: what the job wrote is on a claim that is not mounted here."""
        settings = self._options.kubernetes
        if settings.claim and settings.claim_dir is None:
            raise FilesOutOfReach(
                f"the files of {reference.name} are on the claim {settings.claim}, which this service does "
                "not have mounted: mount it and set jobs.kubernetes.persistent_volume_claim_dir"
            )

    async def make(self, name: str) -> bool:
        """The job's own part of the claim, for the user whom our images run as; whether it was not there.

        Raises:
            LaunchFailed: it cannot be made.
        """
        return await asyncio.to_thread(_make, self.of(name))

    async def remove(self, name: str) -> None:
        """Log and files. Idempotent. Raises BackendError."""
        await asyncio.to_thread(_remove, self.of(name))

    async def erase(self, reference: Reference) -> None:
        """The files alone. Idempotent. Raises BackendError as `data`."""
        await asyncio.to_thread(_remove, self.data(reference))

    async def left(self, reference: Reference) -> bool:
        """Whether a result is there that can still be published."""
        if reference.salvage or not self.hold_files:
            return False
        data = self.of(reference.job_name) / "data"
        ours = self._options.images.runs_ours(reference.image)
        return await asyncio.to_thread(_has_result, data, ours)

    async def first_result(self, reference: Reference) -> str | None:
        """Name of a directory with a `job.json`; None: there is none. Raises BackendError as `data`."""
        return await asyncio.to_thread(_first_result, self.data(reference))

    async def attempts(self, job: Reference) -> list[Reference]:
        """The salvages and retranscriptions of a job that have a folder."""
        prefix = f"{job.job_name}-salvage-"
        numbers = [name.removeprefix(prefix) for name in await self.names() if prefix in name]
        return [replace(job, salvage=int(text)) for text in numbers if text.isdecimal()]

    async def names(self) -> list[str]:
        """Of all folders that hold jobs' files."""
        return await asyncio.to_thread(_names, self.of("")) if self.hold_files else []


async def in_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """What a blocking generator gives, one chunk per visit to a thread."""
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


def _make(folder: Path) -> bool:
    data, fresh = folder / "data", not folder.exists()
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        data.mkdir(exist_ok=True)
        data.chmod(0o2770)
        if os.geteuid() == 0:
            os.chown(folder, JOB_UID, JOB_UID)
            os.chown(data, JOB_UID, JOB_UID)
    except OSError as error:
        raise LaunchFailed(f"cannot make {data}: {error.strerror}") from error
    return fresh


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BackendError(f"cannot remove {folder}: {error.strerror}") from error


def _has_result(data: Path, ours: bool) -> bool:
    """What cannot be looked into, because this service runs as another user than the jobs, counts as one:
    better kept for nothing than lost. Images that are not `ours` never leave one."""
    try:
        with os.scandir(data) as entries:
            return any(_is_there(os.path.join(entry.path, "job.json")) for entry in entries)
    except FileNotFoundError:
        return False
    except OSError:
        return ours


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _first_result(data: Path) -> str | None:
    for document in sorted(data.glob("*/job.json")):
        if stat.S_ISREG(os.lstat(document).st_mode):
            return document.parent.name
    return None


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BackendError(f"cannot list {directory}: {error.strerror}") from error
