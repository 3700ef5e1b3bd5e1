"""Writes the manifest of what a job has left (`foundation.file_manifest`), when it or its salvage ends."""

from __future__ import annotations

import hashlib
import os
import platform
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from foundation.file_manifest import NAME, digest_of, is_listed, next_line
from foundation.logs import get_logger
from foundation.version import build_version
from jobs import connection_gaps, job_directory

Event = Literal["ended", "tried", "kept", "transcribed again"]
"""`ended`: the job, without a post; `tried`: to finish it, in vain; `kept`: this stays after its post."""
_ARTIFACTS_DIR: Final = "artifacts"
_GAP_PLACES: Final = ("", _ARTIFACTS_DIR, f"{_ARTIFACTS_DIR}/audio")
_CHUNK_BYTES: Final = 1 << 20
_NICE: Final = 13
"""As of all work after calls."""
_log = get_logger(component="manifest")


def seal(directory: Path, event: Event) -> None:
    """Add a line to the manifest of the job in `directory`, with size and SHA-256 of each of its files.

    It is beside them: in `directory`, of what is `kept` in its `artifacts/`. Blocks as long as it takes to
    read them (0.9 s of CPU for a gigabyte), in a thread of low priority; never raises. Nothing is written
    where there is nothing to list.
    """
    kept = event == "kept" or not job_directory.is_unfinished(directory)
    place = directory / _ARTIFACTS_DIR if kept else directory
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="manifest", initializer=_step_back) as thread:
            line = thread.submit(_seal, directory, place, event).result()
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        _log.warning("manifest.not_written", reason=reason)
        return
    if line:
        _log.info("manifest.written", entry=event, sha256=digest_of(line))


def _seal(directory: Path, place: Path, event: Event) -> bytes:
    files = [
        {"name": name, "size_bytes": path.stat().st_size, "sha256": _digest(path)}
        for name, path in _files(directory, place)
    ]
    if not files:
        return b""
    earlier = b""
    for path in (directory / NAME, place / NAME):
        if path.exists():
            earlier = path.read_bytes()
    facts = job_directory.facts_of(directory)
    fields: dict[str, Any] = {
        "at": _rfc3339(datetime.now(UTC)),
        "event": event,
        "job_id": directory.name,
        **{name: facts[name] for name in ("began_at", "call_id") if name in facts},
        "gaps": _gaps(directory),
        "versions": {"release": build_version(), "python": platform.python_version()},
        "files": files,
    }
    line = next_line(earlier, fields)
    # Where text is written whole or not at all: a line cut off would break the chain.
    text = (earlier + line).decode()
    job_directory.write_private(place / NAME, text, may_spend_reserve=False)  # that is for the post
    return line


def _files(directory: Path, place: Path) -> Iterator[tuple[str, Path]]:
    """Plain files below `place`, by name as seen from `directory`."""
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            shown = path.relative_to(directory).as_posix()
            if is_listed(shown) and path.is_file() and not path.is_symlink():
                yield shown, path


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _gaps(directory: Path) -> list[Mapping[str, float]]:
    """When there was no connection, in seconds since the start of the recording."""
    for place in _GAP_PLACES:
        if gaps := connection_gaps.read(directory / place):
            return [
                {"start_s": round(start / 1e9, 3), "end_s": round(end / 1e9, 3)}
                for start, end in gaps
            ]
    return []


def _step_back() -> None:
    """Whoever is in a call on this host comes first; on Linux a thread has a nice value of its own."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
