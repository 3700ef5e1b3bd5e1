"""Looks into a job's copy without making its directory again: which files there are, and what is in them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from foundation.copies.journal import (
    JournalError,
    Outline,
    Piece,
    decode,
    head_bytes,
    key_of,
    numbers_of,
    outline,
)
from foundation.copies.stores import CopyStore

_START_BYTES: Final = 16 << 10
"""Of an object; most have their head in it."""
_AT_A_TIME: Final = 4
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """Of one file the pieces that make it up, in order."""

    pieces: tuple[tuple[int, Piece], ...]
    """With the number of the object that has it. Of a piece only as much counts as its `size_bytes`."""

    @property
    def size_bytes(self) -> int:
        return sum(piece.size_bytes for _, piece in self.pieces)

    @property
    def version(self) -> str:
        """Another one whenever the content may be another."""
        return f"{self.pieces[-1][0]}-{self.size_bytes}" if self.pieces else "0-0"


@dataclass(frozen=True, slots=True)
class CopyContents:
    """What a job's copy holds."""

    newest: int
    """Number of the object up to which this is so; 0: there is no copy."""
    files: Mapping[str, CopiedFile]
    """By the name below the job's directory."""


async def look_into(store: CopyStore, job_id: str) -> CopyContents:
    """What the copy of `job_id` holds now; a request per object.

    Raises:
        StoreError: the store cannot be asked.
        JournalError: the copy is damaged; the message names the object.
    """
    numbers = numbers_of(await store.names(job_id))
    gate = asyncio.Semaphore(_AT_A_TIME)

    async def outline_of(number: int) -> Outline:
        key = key_of(job_id, number)
        async with gate:
            start = await store.start_of(key, _START_BYTES)
            try:
                if head_bytes(start) > len(start):
                    start = await store.start_of(key, head_bytes(start))
                return outline(start)
            except JournalError as error:
                raise JournalError(f"{key}: {error}") from error

    files: dict[str, CopiedFile] = {}
    applied = {0}
    reading = [asyncio.ensure_future(outline_of(number)) for number in numbers]
    try:
        for number, task in zip(numbers, reading, strict=True):
            found = await task
            if found.previous not in applied:
                raise JournalError(f"{key_of(job_id, found.previous)} is missing")
            for name in found.gone:
                files.pop(name, None)
            for piece in found.pieces:
                files[piece.name] = _continued(files.get(piece.name), number, piece)
            applied.add(number)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return CopyContents(numbers[-1] if numbers else 0, files)


async def read_copied(
    store: CopyStore, job_id: str, file: CopiedFile, *, start: int = 0
) -> AsyncIterator[bytes]:
    """The file's content from byte `start` on, in chunks of at most 1 MiB.

    Raises:
        StoreError: the store cannot be asked.
        JournalError: the copy is damaged.
    """
    begins = 0
    for number, piece in file.pieces:
        skip = max(start - begins, 0)
        begins += piece.size_bytes
        if skip >= piece.size_bytes:
            continue
        data = await store.get(key_of(job_id, number))
        await asyncio.to_thread(decode, data)  # every byte is as it was written
        end = piece.at + piece.size_bytes
        for at in range(piece.at + skip, end, _CHUNK_BYTES):
            yield data[at : min(at + _CHUNK_BYTES, end)]


async def mark_of(store: CopyStore, job_id: str) -> str:
    """By which the copy is known again; empty: there is none. Raises StoreError."""
    numbers = numbers_of(await store.names(job_id))
    return await _mark(store, job_id, numbers[0]) if numbers else ""


async def has_mark(store: CopyStore, job_id: str, mark: str) -> bool:
    """Is it still the copy that had that mark? Raises StoreError."""
    number = int(mark.partition(":")[0])
    there = numbers_of(await store.names(job_id))
    return number in there and await _mark(store, job_id, number) == mark


async def _mark(store: CopyStore, job_id: str, number: int) -> str:
    start = await store.start_of(key_of(job_id, number), _START_BYTES)
    return f"{number}:{hashlib.sha256(start).hexdigest()}"


def _continued(file: CopiedFile | None, number: int, piece: Piece) -> CopiedFile:
    """`piece` replaces what is at and behind its place; what it lies behind is left out as far as it goes."""
    if file is None or piece.whole:
        return CopiedFile(((number, piece),))
    kept: list[tuple[int, Piece]] = []
    begins = 0
    for owner, part in file.pieces:
        size = min(part.size_bytes, piece.offset - begins)
        if size <= 0:
            break
        kept.append((owner, replace(part, size_bytes=size)))
        begins += size
    if begins < piece.offset:
        raise JournalError(f"what comes before byte {piece.offset} of {piece.name} is missing")
    return CopiedFile((*kept, (number, piece)))
