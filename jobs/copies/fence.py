"""Of all who may finish a job, one makes the post: the job itself, cut off from its service but alive, and
whoever rescues it elsewhere.

Before every post its maker wins a *claim*: an object beside the copy that only one can create,
`<job>.publisher/0000000001`, the next one `…2`. A claim holds good until there is one with a higher number,
and whoever makes that one waits until a post under the claim before it would have been made, and then asks
the server for the files of all claims before. So a claim whose owner died holds nobody up for ever, and two
posts would take an owner that stands still for minutes between its last look and its request.

    {"owner": random text, "files": [the owner's], "others": [those of earlier owners]}

`files` are what `GET /api/v4/files/{id}/info` tells a post of.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from foundation.clock import Clock, SystemClock
from foundation.copies.contents import has_mark
from foundation.copies.journal import numbers_of
from foundation.copies.stores import CopyStore, ObjectExists, StoreError
from foundation.logs import get_logger
from jobs.job_directory import write_private

IDENTITY_NAME: Final = "publisher"
"""Who this directory is, as long as it is; in no copy of it."""
TAKE_OVER_S: Final = 180.0
"""A post that was allowed before is made by then, or never: `_PERMIT_S`, then the request's own time-outs
(callclient.plugin_api: connect, send, answer), and some."""
_PERMIT_S: Final = 10.0
_CLAIM_BYTES: Final = 1 << 20
_ROUNDS: Final = 10
_STORE_S: Final = 20.0
_log = get_logger(component="copies")

Asked = Callable[[str], Awaitable[bool]]
"""Is a post made of the file with that ID? Raises ApiError."""


class Verdict(Enum):
    """What whoever wants to make the post may do."""

    POST = "post"
    """Make it, now."""
    IS_POSTED = "is posted"
    """It exists, made of all that is here."""
    OTHER_IS_POSTED = "other is posted"
    """Another one exists, made of a copy that may lack something of what is here."""


class PublisherUnknown(OSError):
    """Nobody can tell now whether somebody else publishes; the message says why."""


@dataclass(frozen=True, slots=True)
class _Claim:
    number: int
    owner: str
    files: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Identity:
    owner: str
    restored_from: str = ""
    """Mark of the copy (`foundation.copies.contents`) that this directory was made of; empty: of none."""


class Fence:
    """Of one job's directory. `enter` before each post."""

    def __init__(self, store: CopyStore, directory: Path, *, clock: Clock | None = None) -> None:
        self._store = store
        self._job_id = directory.name
        self._directory = directory
        self._clock = clock or SystemClock()
        self._identity: _Identity | None = None
        self._settled: set[int] = set()
        """Claims of ours before which nobody has posted."""

    async def enter(self, file_id: str, *, is_posted: Asked) -> Verdict:
        """May the post with that file be made? Takes minutes where somebody else was allowed to.

        Raises:
            StoreError: the store cannot be asked.
            OSError: the directory cannot be written.
            ApiError: the server cannot be asked.
        """
        for _ in range(_ROUNDS):
            began_ns = self._clock.monotonic_ns()
            claim = await self._claimed(file_id)
            if claim is None:
                continue  # somebody was faster
            if claim.number not in self._settled:
                verdict = await self._settle(claim, is_posted)
                if verdict is not Verdict.POST:
                    return verdict
                self._settled.add(claim.number)
                continue  # and only with a new look
            if (self._clock.monotonic_ns() - began_ns) / 1e9 <= _PERMIT_S:
                return Verdict.POST
        raise StoreError("who may make the post could not be settled")

    async def is_restored(self) -> bool:
        """Is the directory made of a copy? Raises OSError."""
        return bool((await self._who(make=False)).restored_from)

    async def is_another_s(self) -> bool:
        """Has somebody else claimed to publish since? Raises StoreError, OSError."""
        newest = await self._newest()
        return newest is not None and newest.owner != (await self._who(make=False)).owner

    async def leave(self) -> None:
        """The post is made and the copy is gone: nobody is to be held off, unless there are two of us.

        Raises:
            StoreError: the store cannot be asked.
        """
        claim, who = await self._newest(), self._identity
        if claim is None or who is None or who.restored_from:
            return
        if claim.owner == who.owner and not claim.others:
            await self._store.remove(_prefix(self._job_id))

    async def _claimed(self, file_id: str) -> _Claim | None:
        """Our claim, when it is the newest one; None: another one came."""
        who = await self._who()
        newest = await self._newest()
        if newest is not None and newest.owner == who.owner and file_id in newest.files:
            return newest
        number = 1
        files: tuple[str, ...] = (file_id,)
        others: tuple[str, ...] = ()
        if newest is not None:
            number, others = newest.number + 1, newest.others
            if newest.owner == who.owner:
                files = (*newest.files, file_id)
            else:
                others = (*newest.others, *newest.files)
                _log.info("publisher.taken_over", claim=number)
        claim = _Claim(number, who.owner, files, others)
        try:
            with _in_time():
                async with asyncio.timeout(_STORE_S):
                    await self._store.create(_key(self._job_id, number), _encoded(claim))
        except ObjectExists:
            return None
        # A server that knows no conditional writes has let us overwrite one that came with ours.
        newest = await self._newest()
        return claim if newest == claim else None

    async def _settle(self, claim: _Claim, is_posted: Asked) -> Verdict:
        restored_from = (await self._who()).restored_from
        if claim.others:
            _log.info("publisher.waits", seconds=TAKE_OVER_S, files=len(claim.others))
            await asyncio.sleep(TAKE_OVER_S)
            for file_id in claim.others:
                if await is_posted(file_id):
                    _log.info("publisher.was_another")
                    return Verdict.IS_POSTED if restored_from else Verdict.OTHER_IS_POSTED
        if restored_from and not await has_mark(self._store, self._job_id, restored_from):
            # Whose copy it was has made the post for sure, or the copy would be there.
            _log.info("publisher.was_another", copy="removed")
            return Verdict.IS_POSTED
        return Verdict.POST

    async def _newest(self) -> _Claim | None:
        with _in_time():
            async with asyncio.timeout(_STORE_S):
                numbers = numbers_of(await self._store.names(_prefix(self._job_id)))
                if not numbers:
                    return None
                key = _key(self._job_id, numbers[-1])
                return _decoded(numbers[-1], await self._store.start_of(key, _CLAIM_BYTES), key)

    async def _who(self, *, make: bool = True) -> _Identity:
        if self._identity is None:
            found = await asyncio.to_thread(_identity_in, self._directory, make=make)
            if found is None:
                return _Identity("")
            self._identity = found
        return self._identity


def write_identity(directory: Path, *, restored_from: str = "") -> None:
    """Make the directory one of its own; with `restored_from`, made of the copy with that mark. Blocks.

    Raises:
        OSError: it cannot be written.
    """
    document = {"owner": secrets.token_hex(16), "restored_from": restored_from}
    write_private(directory / IDENTITY_NAME, json.dumps(document))


def _identity_in(directory: Path, *, make: bool) -> _Identity | None:
    path = directory / IDENTITY_NAME
    if not path.exists():
        if not make:
            return None
        write_identity(directory)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return _Identity(str(document["owner"]), str(document["restored_from"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OSError(f"{path}: is damaged") from error


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise StoreError(f"no answer within {_STORE_S:g} s") from None


def _prefix(job_id: str) -> str:
    return f"{job_id}.publisher"


def _key(job_id: str, number: int) -> str:
    return f"{_prefix(job_id)}/{number:010d}"


def _encoded(claim: _Claim) -> bytes:
    document = {"owner": claim.owner, "files": claim.files, "others": claim.others}
    return json.dumps(document).encode()


def _decoded(number: int, data: bytes, key: str) -> _Claim:
    try:
        document = json.loads(data)
        files = tuple(str(file) for file in document["files"])
        others = tuple(str(file) for file in document["others"])
        return _Claim(number, str(document["owner"]), files, others)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"{key} is no claim") from error
