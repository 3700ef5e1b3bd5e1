"""Verifies the audit's files: is each line what it was when the next one was written?

Whoever may write the files can write a whole new chain; that shows by a line whose SHA-256 was kept elsewhere
(the service's log has one of each start). Lines cut off at the very end show in the same way only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from offloader.audit_file import (
    EXPIRED,
    NOTHING_BEFORE,
    RECOVERED,
    entry_of,
    line_digest,
    put_aside,
)

_PUT_ASIDE: Final = re.compile(r"-\d{12}$")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found."""

    files: int
    lines: int
    first_seq: int
    last_seq: int
    digest: str
    """SHA-256 of the last whole line."""
    broken: str = ""
    """The first line that is wrong, as `FILE:LINE: why`; empty: all is well."""
    unfinished: bool = False
    """The last line has no end: somebody writes it now, or a process ended in the middle of it."""


def verify(path: Path) -> Verdict:
    """The series `path`, its files put aside included; one of those alone if its own name is given.

    Raises OSError: something cannot be read. Blocks.
    """
    with ExitStack() as opened:
        whole_series = not _PUT_ASIDE.search(path.stem)
        return _Walk().over(_open_all(path, opened), whole_series=whole_series)


def _open_all(path: Path, opened: ExitStack) -> list[tuple[Path, BinaryIO]]:
    """The present file first: whoever puts it aside meanwhile takes no line away from us."""
    present: list[tuple[Path, BinaryIO]] = []
    if path.exists() or not put_aside(path):
        present = [(path, opened.enter_context(path.open("rb")))]
    known = {os.fstat(file.fileno()).st_ino for _, file in present}
    aside: list[tuple[Path, BinaryIO]] = [
        (old, opened.enter_context(old.open("rb"))) for _, old in put_aside(path)
    ]
    return [x for x in aside if os.fstat(x[1].fileno()).st_ino not in known] + present


class _Broken(Exception):
    """Why the chain is broken."""


class _BrokenBefore(_Broken):
    """In the line before the one that is looked at."""


class _Walk:
    """Line by line."""

    def __init__(self) -> None:
        self._lines = 0
        self._first_seq = 0
        self._seq = 0
        self._digest = NOTHING_BEFORE
        self._prev = NOTHING_BEFORE
        """What the next line has to hold."""
        self._cut_off = False
        """The line before was no whole one; only a record that says so may follow."""
        self._expired: set[int] = set()
        self._begins = ""
        self._unfinished = False

    def over(self, files: list[tuple[Path, BinaryIO]], *, whole_series: bool) -> Verdict:
        broken = ""
        where = before = ""
        try:
            for where, line in _lines(files):
                self._see(where, line)
                before = where
            if self._cut_off and not self._unfinished:
                raise _Broken("is no line of an audit")
            if self._first_seq > 1 and self._first_seq - 1 not in self._expired and whole_series:
                where = self._begins
                raise _Broken("lines before it are gone, and no record says that they were too old")
        except _BrokenBefore as error:
            broken = f"{before}: {error}"
        except _Broken as error:
            broken = f"{where}: {error}"
        return Verdict(
            files=len(files),
            lines=self._lines,
            first_seq=self._first_seq,
            last_seq=self._seq,
            digest=self._digest,
            broken=broken,
            unfinished=self._unfinished,
        )

    def _see(self, where: str, raw: bytes) -> None:
        line = raw.removesuffix(b"\n")
        entry = entry_of(line)
        digest = line_digest(line)
        if entry is None:
            if self._cut_off:
                raise _Broken("is no line of an audit")
            self._cut_off, self._unfinished, self._prev = True, raw == line, digest
            return
        if self._cut_off and entry.get("action") != RECOVERED:
            raise _BrokenBefore("is no line of an audit")
        if not self._lines:
            self._begin(where, entry["seq"], str(entry.get("prev")))
        elif entry["seq"] != self._seq + 1:
            raise _Broken(
                f"has seq {entry['seq']} after {self._seq}: lines were taken out or put in"
            )
        elif entry.get("prev") != self._prev:
            raise _BrokenBefore(
                f"is not what it was when the line after it was written (seq {self._seq})"
            )
        if entry.get("action") == EXPIRED:
            self._expired.add(entry.get("through", 0))
        self._cut_off = self._unfinished = False
        self._seq, self._digest, self._prev = entry["seq"], digest, digest
        self._lines += 1

    def _begin(self, where: str, seq: int, prev: str) -> None:
        if (self._cut_off or seq == 1) and prev != self._prev:
            raise _Broken("is not how an audit begins")
        self._first_seq, self._begins = seq, where


def _lines(files: list[tuple[Path, BinaryIO]]) -> Iterator[tuple[str, bytes]]:
    for path, file in files:
        for number, line in enumerate(file, start=1):
            yield f"{path}:{number}", line
