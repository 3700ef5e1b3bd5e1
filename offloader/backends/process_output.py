"""What a process job gives out besides its exit code: its log as it grows, and the files it left.

Everything here blocks: the backend calls it in threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

from foundation.files_below import DIRECTORY, open_below
from offloader.backends.base import Artifact
from offloader.backends.process_files import LOG_CUT, log_numbers
from offloader.backends.shim.capped_log import tail_name
from offloader.errors import BackendError

_CHUNK_BYTES: Final = 256 * 1024
_MOST_FILES: Final = 1000
_MOST_ENTRIES: Final = 100_000
_MOST_DIRECTORIES: Final = 16
"""Our jobs leave dozens of files, two directories deep; what a hostile one leaves is not walked for ever."""


class LogFollower:
    """Reads a job's log from its beginning, file after file, while the shim writes and rotates it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        self._position = 0

    def read(self) -> bytes:
        """What comes next; empty when everything written so far was read."""
        while True:
            # Listed before the reading: a file that had a successor then is not written any more.
            numbers = log_numbers(self._directory)
            later = [number for number in numbers if number > self._number]
            chunk = self._read_here()
            if chunk:
                self._position += len(chunk)
                return chunk
            if not later:
                return b""
            gone = chunk is None or later[0] > self._number + 1
            self._number, self._position = later[0], 0
            if gone:
                return LOG_CUT

    def _read_here(self) -> bytes | None:
        name = tail_name(self._number) if self._number else "job.log"
        try:
            with (self._directory / name).open("rb") as file:
                file.seek(self._position)
                return file.read(_CHUNK_BYTES)
        except FileNotFoundError:
            return None


def list_artifacts(data: Path) -> list[Artifact]:
    """The job's own plain files below `data` with printable names, by name; links of either kind and special
    files are left out, and so is what is more than 16 directories deep."""
    found: list[Artifact] = []
    with suppress(OSError):
        _walk(os.open(data, DIRECTORY), "", found, budget=count())
    return sorted(found, key=lambda artifact: artifact.name)[:_MOST_FILES]


def _walk(folder: int, prefix: str, found: list[Artifact], *, budget: Iterator[int]) -> None:
    """From directory to directory by descriptors, which are closed: no name is looked up twice, so that a job
    that still runs cannot put a link there in between."""
    try:
        for name in os.listdir(folder):
            if next(budget) >= _MOST_ENTRIES:
                return
            shown = f"{prefix}{name}"
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and shown.count("/") < _MOST_DIRECTORIES:
                    deeper = os.open(name, DIRECTORY, dir_fd=folder)
                    _walk(deeper, f"{shown}/", found, budget=budget)
            except OSError:
                continue  # the job removed it meanwhile
            if _is_own_file(status) and shown.isprintable():
                found.append(Artifact(shown, status.st_size, _version(status)))
    finally:
        os.close(folder)


def _is_own_file(status: os.stat_result) -> bool:
    """A plain file with no other name: a hard link may be to a file that is none of the job's."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def read_artifact(data: Path, name: str, *, start: int = 0) -> Iterator[bytes]:
    """The file `name` below `data` from byte `start` on, in chunks.

    Raises:
        BackendError: with the first chunk: no such plain file below `data`.
    """
    with os.fdopen(_open_below(data, name), "rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _open_below(data: Path, name: str) -> int:
    try:
        folder = os.open(data, DIRECTORY)
        try:
            file = open_below(folder, name)
        finally:
            os.close(folder)
    except OSError as error:
        raise BackendError(f"no file {name!r}: {error.strerror}") from error
    if not _is_own_file(os.fstat(file)):
        os.close(file)
        raise BackendError(f"no file {name!r}")
    return file
