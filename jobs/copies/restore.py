"""Makes a job's directory again from its copy, on another host."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from foundation.copies.journal import JournalError, apply, decode, key_of, numbers_of
from foundation.copies.stores import CopyStore, StoreError


class NoCopy(StoreError):
    """There is none: it was never made, or the job has published and needs it no more."""


def _as_it_is(_directory: Path) -> None:
    return None


async def restore(
    store: CopyStore,
    job_id: str,
    directory: Path,
    *,
    prepare: Callable[[Path], None] = _as_it_is,
) -> None:
    """Fill `directory`, which must not exist, with what the copy of `job_id` holds.

    Another directory takes it first, so that a restore that breaks off leaves nothing that looks whole;
    `prepare` has it last, in a thread.

    Raises:
        NoCopy: there is none.
        StoreError: it cannot be read.
        JournalError: the copy is damaged; the message names the object.
        OSError: the directory exists, or cannot be written.
    """
    numbers = numbers_of(await store.names(job_id))
    if not numbers:
        raise NoCopy(f"there is no copy of job {job_id}")
    if await asyncio.to_thread(directory.exists):
        raise FileExistsError(errno.EEXIST, "is there already", str(directory))
    half = directory.parent / ".restoring" / directory.name
    await asyncio.to_thread(_begin, half)
    applied = {0}
    for number in numbers:
        key = key_of(job_id, number)
        try:
            entry = decode(await store.get(key))
            if entry.previous not in applied:
                raise JournalError(f"{key_of(job_id, entry.previous)} before it is missing")
            await asyncio.to_thread(apply, half, entry)
        except JournalError as error:
            raise JournalError(f"{key}: {error}") from error
        applied.add(number)
    await asyncio.to_thread(prepare, half)
    await asyncio.to_thread(_finish, half, directory)


def _finish(half: Path, directory: Path) -> None:
    half.replace(directory)
    with suppress(OSError):
        half.parent.rmdir()


def _begin(half: Path) -> None:
    shutil.rmtree(half, ignore_errors=True)  # of a restore that broke off
    half.mkdir(mode=0o700, parents=True)
