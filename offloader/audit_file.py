"""The audit's file: one JSON object per line, each with the SHA-256 of the one before, only ever appended to.

    {"seq":2,"time":"2026-01-31T10:00:00.000000Z","action":"job.start",…,"prev":"<64 hexadecimal digits>"}

`seq` counts from 1, `prev` of the first line ever is 64 zeros, and both go on over files. A file is put aside
when its UTC day or its size is over, as `NAME-<seq of its first line>.jsonl`; `audit_chain` verifies them.
Nothing is remembered between two calls: each takes the lock beside the file and looks at its end, so several
processes may write to it. Everything here blocks.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from foundation.clock import rfc3339

NOTHING_BEFORE: Final = "0" * 64
RECOVERED: Final = "audit.recovered"
"""Follows a line that was cut off when a process or the host ended."""
EXPIRED: Final = "audit.expired"
"""Says up to which `seq` files were deleted because of their age."""
_TAIL_BYTES: Final = 64 << 10
_LOCK_TRIES: Final = 50
_LOCK_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Place:
    """Where the chain ends."""

    seq: int
    digest: str


def line_digest(line: bytes) -> str:
    """Of a line without its newline."""
    return hashlib.sha256(line).hexdigest()


def entry_of(line: bytes) -> dict[str, Any] | None:
    """A line as an object with a number `seq`; None: it is no such line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("seq"), int):
        return None
    return entry


def put_aside(path: Path) -> list[tuple[int, Path]]:
    """The files put aside of the series `path`, oldest first, each with the `seq` in its name."""
    pattern = re.compile(rf"{re.escape(path.stem)}-(\d{{12}}){re.escape(path.suffix)}")
    names = os.listdir(path.parent)
    return sorted((int(m[1]), path.parent / n) for n in names if (m := pattern.fullmatch(n)))


class AuditFile:
    """One series of files."""

    def __init__(self, path: Path, *, max_bytes: int, retention: timedelta | None) -> None:
        """`retention`: None: for ever."""
        self.path = path
        self._max_bytes = max_bytes
        self._retention = retention

    def append(self, entries: Sequence[Mapping[str, Any]], *, now: datetime) -> Place:
        """All entries, on the disk when this returns; none of them when it raises OSError."""
        with self._locked():
            return self._append(entries, now)

    def expire(self, *, now: datetime) -> None:
        """Delete what is older than `retention`, and say so in the chain. Raises OSError."""
        if self._retention is None:
            return
        with self._locked():
            if self._day_is_over(now):
                self._rotate()
            oldest = rfc3339(now - self._retention)
            through = 0
            aged: list[Path] = []
            for _, path in put_aside(self.path):
                last = self._last_entry(path)
                if last is None or not str(last.get("time")) < oldest:
                    break
                through, aged = last["seq"], [*aged, path]
            if aged:
                # Said first: files that are gone without a word would look like a deed of somebody.
                entry = {"time": rfc3339(now), "action": EXPIRED, "through": through}
                self._append([entry], now)
                for path in aged:
                    path.unlink()

    def _append(self, entries: Sequence[Mapping[str, Any]], now: datetime) -> Place:
        if self._day_is_over(now) or self._size() >= self._max_bytes:
            self._rotate()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            before = os.fstat(descriptor).st_size
            tail = _tail(descriptor, before) or self._tail_before()
            place, cut_off = _end_of(tail)
            data = bytearray(b"\n" if before and not tail.endswith(b"\n") else b"")
            if cut_off:
                entries = [{"time": rfc3339(now), "action": RECOVERED}, *entries]
            for entry in entries:
                whole = {"seq": place.seq + 1, **entry, "prev": place.digest}
                line = json.dumps(whole, separators=(",", ":")).encode()
                place = Place(place.seq + 1, line_digest(line))
                data += line + b"\n"
            try:
                _write(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)
        return place

    def _tail_before(self) -> bytes:
        """The end of the newest file put aside."""
        aside = put_aside(self.path)
        return _tail_of(aside[-1][1]) if aside else b""

    def _day_is_over(self, now: datetime) -> bool:
        first = self._first_entry()
        return first is not None and str(first.get("time"))[:10] != rfc3339(now)[:10]

    def _rotate(self) -> None:
        first = self._first_entry()
        aside = put_aside(self.path)
        number = first["seq"] if first else (aside[-1][0] + 1 if aside else 1)
        while (target := self._aside(number)).exists():
            number += 1
        self.path.rename(target)

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.stem}-{number:012d}{self.path.suffix}")

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _first_entry(self) -> dict[str, Any] | None:
        try:
            with self.path.open("rb") as file:
                return entry_of(file.readline(_TAIL_BYTES))
        except FileNotFoundError:
            return None

    def _last_entry(self, path: Path) -> dict[str, Any] | None:
        return entry_of(_tail_of(path).removesuffix(b"\n").rpartition(b"\n")[2])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Raises BlockingIOError (an OSError): another process has it for a second already."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path.with_name(self.path.name + ".lock"), flags, 0o600)
        try:
            for left in reversed(range(_LOCK_TRIES)):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not left:
                        raise
                    time.sleep(_LOCK_PAUSE_S)
            yield
        finally:
            os.close(descriptor)  # which gives the lock back


def _end_of(tail: bytes) -> tuple[Place, bool]:
    """Where the chain goes on, and whether its last line was cut off."""
    if not tail:
        return Place(0, NOTHING_BEFORE), False
    lines = tail.removesuffix(b"\n").split(b"\n")
    known = (entry for line in reversed(lines) if (entry := entry_of(line)) is not None)
    seq = next(known, {"seq": 0})["seq"]
    cut_off = not tail.endswith(b"\n") and entry_of(lines[-1]) is None
    return Place(seq, line_digest(lines[-1])), cut_off


def _tail(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, _TAIL_BYTES, max(size - _TAIL_BYTES, 0))


def _tail_of(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _tail(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
