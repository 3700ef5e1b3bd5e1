"""The manifest of the files that a job has left: JSON lines, each with the SHA-256 of the one before.

Each line lists all files there are at that moment, so the last one says what should be there, and the earlier
ones how it came to be. Whoever may write the files can write a whole new chain; that shows by the SHA-256 of
the last line, which the job's log has, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

NAME: Final = "manifest.jsonl"
NOTHING_BEFORE: Final = "0" * 64
MOST_BYTES: Final = 16 << 20
"""Of a manifest; a job leaves hundreds of files at most, and is finished a few times."""
_WORKING: Final = frozenset(
    {NAME, "job.json", "publication.json", "publisher", "reserve", "artifacts.begun"}
)
_WORKING_ENDINGS: Final = (".tmp", ".log")


class ManifestError(ValueError):
    """The chain is broken; the message names the first line that is wrong, and why."""


def is_listed(name: str) -> bool:
    """Whether a file of that path is a result; the rest are records of the work on it, and logs."""
    base = name.rpartition("/")[2]
    return base not in _WORKING and not base.endswith(_WORKING_ENDINGS)


def digest_of(line: bytes) -> str:
    """SHA-256 of a line without its newline, as the next one has it."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def next_line(manifest: bytes, fields: Mapping[str, Any]) -> bytes:
    """The line that follows those of `manifest`. Raises ManifestError."""
    entries = entries_of(manifest)
    prev = digest_of(manifest.splitlines()[-1]) if entries else NOTHING_BEFORE
    entry = {"seq": len(entries) + 1, "prev": prev, **fields}
    return json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def entries_of(manifest: bytes) -> Sequence[Mapping[str, Any]]:
    """The lines of a manifest, the oldest first.

    Raises:
        ManifestError: one is not what it was when the next was written, or is no such line.
    """
    entries: list[Mapping[str, Any]] = []
    prev = NOTHING_BEFORE
    for number, line in enumerate(manifest.splitlines(), start=1):
        try:
            entry = json.loads(line)
            files = {
                str(file["name"]): (file["size_bytes"], file["sha256"]) for file in entry["files"]
            }
            whole = len(files) == len(entry["files"])
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ManifestError(f"line {number} is no line of a manifest") from None
        if entry.get("prev") != prev:
            if number == 1:
                raise ManifestError("line 1 is not how a manifest begins")
            raise ManifestError(
                f"line {number - 1} is not what it was when line {number} was written"
            )
        if entry.get("seq") != number or not whole:
            raise ManifestError(f"line {number} is no line of a manifest")
        prev = digest_of(line)
        entries.append(entry)
    return entries
