"""What a process job gives out besides its exit code: its log as it grows, and the files it left.

Everything here blocks: the backend calls it in threads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from offloader.backends.base import Artifact
from offloader.backends.process_files import LOG_CUT, log_numbers
from offloader.backends.shim.capped_log import tail_name
from offloader.errors import BackendError

_CHUNK_BYTES: Final = 256 * 1024
_MOST_FILES: Final = 1000
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
    """The plain files below `data` with printable names, by name; links and special files are left out."""
    found: list[Artifact] = []
    for directory, _, names in os.walk(data):
        for name in names:
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue  # the job removed it meanwhile
            shown = os.path.relpath(path, data)
            if stat.S_ISREG(status.st_mode) and shown.isprintable():
                found.append(Artifact(shown, status.st_size, _version(status)))
    return sorted(found, key=lambda artifact: artifact.name)[:_MOST_FILES]


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
    """Open part by part, so that no link and no `..` leads anywhere else."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise BackendError(f"no file {name!r}")
    try:
        folder = os.open(data, _DIRECTORY)
        try:
            for part in parts[:-1]:
                deeper = os.open(part, _DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = deeper
            file = os.open(parts[-1], _FILE, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BackendError(f"no file {name!r}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise BackendError(f"no file {name!r}")
    return file
