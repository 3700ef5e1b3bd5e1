"""A support bundle: named texts, first listed, then written into one archive that only its owner can read."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from offloader.support_bundle_redaction import Redactor


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the bundle, redacted."""

    name: str
    """With `/` as in the archive."""
    content: bytes = field(repr=False)

    @classmethod
    def of_document(cls, name: str, document: Any, redactor: Redactor) -> Entry:
        """As JSON."""
        clean = redactor.document(document)
        return cls(name, (json.dumps(clean, indent=2, default=str) + "\n").encode())

    @classmethod
    def of_text(cls, name: str, text: str, redactor: Redactor) -> Entry:
        """As it is, but for secrets."""
        return cls(name, redactor.text(text).encode(errors="replace"))

    @property
    def size_bytes(self) -> int:
        return len(self.content)


@dataclass(frozen=True, slots=True)
class Missing:
    """What could not be had, and why."""

    name: str
    reason: str


@dataclass(slots=True)
class Collection:
    """What goes into the bundle, in the order of its list."""

    entries: list[Entry] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def add(self, *entries: Entry) -> None:
        self.entries += entries

    def lacks(self, name: str, reason: str) -> None:
        self.missing.append(Missing(name, reason))


def default_name(now: datetime) -> str:
    """`offloader-support-20260131-100509.tar.gz`."""
    return f"offloader-support-{now.astimezone(UTC):%Y%m%d-%H%M%S}.tar.gz"


def write_archive(path: Path, entries: Sequence[Entry]) -> int:
    """Write a new file for its owner only; returns its size in bytes. Blocks.

    Raises:
        FileExistsError: there is one already.
        OSError: it cannot be written; nothing is left then.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz") as tar:
                for member, content in _members(path.name, entries):
                    tar.addfile(member, io.BytesIO(content))
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path.stat().st_size


def _members(name: str, entries: Iterable[Entry]) -> Iterable[tuple[tarfile.TarInfo, bytes]]:
    top = name.removesuffix(".tar.gz")
    for entry in entries:
        member = tarfile.TarInfo(f"{top}/{entry.name}")
        member.size, member.mode, member.mtime = entry.size_bytes, 0o600, int(time.time())
        yield member, entry.content
