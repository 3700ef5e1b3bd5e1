"""What the owner of tracks keeps on disk: their sound, their states, their results. Everything blocks.

One directory per job (0700), because it holds speech: `tracks.json`, `<track>.audio`, `<track>.result`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from foundation.logs import get_logger

TRACK_NAME: Final = re.compile(r"voice-[0-9]{1,4}")
CLAIM: Final = re.compile(r"[0-9a-f]{32}")
MOST_BYTES: Final = 2 << 30
"""Of one track: a day of speech."""
_CHUNK_BYTES: Final = 256 * 1024
_STATES: Final = "tracks.json"
log = get_logger()


class OutOfOrder(ValueError):
    """A part does not begin where the one before has ended; the message says where that is."""


class TrackFiles:
    """Below one directory, which is made when it is needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def audio(self, job_id: str, track: str) -> Path:
        return self._directory / job_id / f"{track}.audio"

    def result(self, job_id: str, track: str) -> Path:
        return self._directory / job_id / f"{track}.result"

    def coming(self, job_id: str, track: str, claim: str) -> Path:
        """A result of which parts may be missing."""
        return self._directory / job_id / f"{track}.{claim}.part"

    def append(self, path: Path, part: bytes, *, start: int) -> int:
        """Write a part; 0 begins anew. The file's size now.

        Raises:
            OutOfOrder: the part would leave a hole.
            OSError: no room, or no right.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if start > size:
                raise OutOfOrder(f"start: {start}: should be at most {size}")
            if start + len(part) > MOST_BYTES:
                raise OutOfOrder(f"start: {start}: a track has at most {MOST_BYTES} bytes")
            os.ftruncate(descriptor, start)
            written = 0
            while written < len(part):
                written += os.pwrite(descriptor, part[written:], start + written)
        finally:
            os.close(descriptor)
        return start + len(part)

    def read(self, path: Path) -> Iterator[bytes]:
        """Its content, in chunks. Raises OSError."""
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def save(self, job_id: str, documents: Sequence[Mapping[str, Any]]) -> None:
        """The states of a job's tracks, complete or not at all. Raises OSError."""
        path = self._directory / job_id / _STATES
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"version": 1, "tracks": list(documents)}, file)
        temporary.replace(path)

    def saved(self) -> dict[str, list[Any]]:
        """What an earlier process left, by job; what has no states is removed."""
        found: dict[str, list[Any]] = {}
        for directory in self._directory.glob("*/"):
            try:
                document = json.loads((directory / _STATES).read_text(encoding="utf-8"))
                found[directory.name] = list(document["tracks"])
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                self.remove(directory.name)
        return found

    def remove(self, job_id: str) -> None:
        """Everything of that job. Never raises."""
        directory = self._directory / job_id
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            log.warning("tracks.not_removed", job_id=job_id)
