"""One object of a job's copy: what has changed in its directory since the object before it.

The objects of a job are a journal: applied in order, they make its directory again as it was when the last
one was written. Layout, all numbers big-endian: `CPJ1`, the header's length (u32), the header as JSON
(`previous`: number of the object that this one follows, 0 for the first; `changes`: name, offset, bytes,
whole; `gone`: names; `sha256` of what comes behind it), then the changes' bytes one behind the other.

An object whose writing was not confirmed may be there or not: the next one follows the one before it, and
has all that it had.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

_MAGIC: Final = b"CPJ1"
_LENGTH: Final = struct.Struct(">4sI")
_MOST_HEADER_BYTES: Final = 16 << 20


class JournalError(ValueError):
    """An object is no part of a journal; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Change:
    """New bytes of one file."""

    name: str
    """Its path below the directory, with `/` between the parts."""
    offset: int
    """Where they belong. Below it nothing has changed."""
    data: bytes = field(repr=False)
    whole: bool = False
    """It is another file than before: whatever was there under its name goes first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object's content."""

    changes: Sequence[Change] = ()
    gone: Sequence[str] = ()
    """Files that are not there any more."""
    previous: int = 0
    """The object without which this one means nothing; 0: it is the first."""

    def encode(self) -> bytes:
        """The object."""
        digest = hashlib.sha256()
        for change in self.changes:
            digest.update(change.data)
        header = json.dumps(
            {
                "previous": self.previous,
                "changes": [
                    {"name": c.name, "offset": c.offset, "bytes": len(c.data), "whole": c.whole}
                    for c in self.changes
                ],
                "gone": list(self.gone),
                "sha256": digest.hexdigest(),
            }
        ).encode()
        return b"".join(
            (_LENGTH.pack(_MAGIC, len(header)), header, *(change.data for change in self.changes))
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """Where an object holds new bytes of a file."""

    name: str
    offset: int
    """In the file. Below it nothing has changed."""
    at: int
    """In the object."""
    size_bytes: int
    whole: bool
    """It is another file than before."""


@dataclass(frozen=True, slots=True)
class Outline:
    """An object without the bytes."""

    pieces: Sequence[Piece]
    gone: Sequence[str]
    previous: int


def head_bytes(start: bytes) -> int:
    """How many bytes of an object, of which the first ones are given, its outline takes.

    Raises:
        JournalError: it is no part of a journal.
    """
    try:
        magic, length = _LENGTH.unpack_from(start)
    except struct.error as error:
        raise JournalError("it is shorter than its head") from error
    if magic != _MAGIC or length > _MOST_HEADER_BYTES:
        raise JournalError("it does not begin as a journal's object does")
    return int(_LENGTH.size + length)


def outline(start: bytes) -> Outline:
    """Of an object, of which at least `head_bytes` are given.

    Raises:
        JournalError: it is no part of a journal, or names a file outside of the directory.
    """
    at = head_bytes(start)
    try:
        header = json.loads(start[_LENGTH.size : at])
        pieces = []
        for change in header["changes"]:
            name, offset, size = str(change["name"]), int(change["offset"]), int(change["bytes"])
            if offset < 0 or size < 0:
                raise JournalError(f"the place of {name} cannot be")
            pieces.append(Piece(_inside(name), offset, at, size, bool(change["whole"])))
            at += size
        gone = [_inside(str(name)) for name in header["gone"]]
        return Outline(pieces, gone, int(header["previous"]))
    except JournalError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise JournalError("its head cannot be read") from error


def decode(data: bytes) -> Entry:
    """An object's content.

    Raises:
        JournalError: it is none, is cut off, or names a file outside of the directory.
    """
    found, at = outline(data), head_bytes(data)
    if hashlib.sha256(data[at:]).hexdigest() != json.loads(data[_LENGTH.size : at]).get("sha256"):
        raise JournalError("it is cut off, or its bytes are not those that were written")
    for piece in found.pieces:
        if piece.at + piece.size_bytes > len(data):
            raise JournalError(f"the bytes of {piece.name} are cut off")
    changes = [
        Change(piece.name, piece.offset, data[piece.at : piece.at + piece.size_bytes], piece.whole)
        for piece in found.pieces
    ]
    return Entry(changes, found.gone, found.previous)


def apply(directory: Path, entry: Entry) -> None:
    """Bring `directory` to the state that `entry` describes. Blocks.

    Raises:
        JournalError: an object before this one is missing: a file would have a hole.
        OSError: the directory cannot be written.
    """
    for name in entry.gone:
        (directory / name).unlink(missing_ok=True)
    for change in entry.changes:
        path = directory / change.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if change.whole:
            path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if file.seek(0, os.SEEK_END) < change.offset:
                raise JournalError(
                    f"what comes before byte {change.offset} of {change.name} is missing"
                )
            file.truncate(change.offset)
            file.seek(change.offset)
            file.write(change.data)


def numbers_of(names: Iterable[str]) -> list[int]:
    """The numbers of a journal's objects among the names of what lies in it, in order."""
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def key_of(job_id: str, number: int) -> str:
    """Of a journal's object. Names sort as numbers do."""
    return f"{job_id}/{number:010d}"


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise JournalError(f"{name!r} is no file of the directory")
    return name
