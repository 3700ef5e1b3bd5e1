"""What is stored under which secret key, and what is stored anew under the newest.

The database remembers by which key it was written last, so that a replica that has been given only older ones
can say so. A ciphertext does not name its key (the previous release reads it, too): the keys are tried.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Row, Table, delete, insert, select, update

from foundation.logs import get_logger
from offloader.errors import StoreError
from offloader.store.database import Database, Lock
from offloader.store.schema import facts, job_secrets, job_variables
from offloader.store.secret_key import Cipher, SecretKey
from offloader.store.sql_secrets import secret_context, variables_context

_FACT: Final = "newest_secret_key"
_PAGE: Final = 200
_CHECK_EVERY_S: Final = 30.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What was found."""

    keys: Sequence[tuple[str, int]]
    """ID of each key that this replica has, the newest first, and how many secrets only that one opens."""
    unreadable: int
    """Secrets that none of them opens."""
    renewed: int = 0
    """Secrets that were stored anew under the newest."""
    missing: str = ""
    """ID of a key that is newer than all of these: other replicas write with it."""


class SqlKeyUse:
    """One per process. Every method raises StoreError."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher
        self._told = ""

    async def check(self) -> str:
        """ID of the key that others write with and this process lacks, which is logged once; else empty, and
        others are told which is the newest here."""
        own = [key.id for key in self._cipher.opening]
        async with self._database.read() as connection:
            query = select(facts.c.value).where(facts.c.name == _FACT)
            known: str | None = (await connection.execute(query)).scalar_one_or_none()
        if known is not None and known not in own:
            if known != self._told:
                log.error("secrets.newest_key_missing", wanted=known, newest_here=own[0])
            self._told = known
            return known
        self._told = ""
        if known != own[0]:
            await self._remember(own[0])
        return ""

    async def run(self) -> None:
        """Check now and then, until cancelled: another replica may have got a newer key."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            with contextlib.suppress(StoreError):  # the store's own lines tell of it
                await self.check()

    async def uses(self) -> KeyUse:
        """Look at every secret."""
        return await self._over_all(renew=False)

    async def renew(self) -> KeyUse:
        """Store anew under the newest key what an older one opens. What another process puts meanwhile is
        left as it is. From then on the newest key here is the newest of all."""
        await self._remember(self._cipher.keys[0].id)
        return await self._over_all(renew=True)

    async def _over_all(self, *, renew: bool) -> KeyUse:
        keys = self._cipher.opening
        counts: Counter[str] = Counter()
        renewed = 0
        for table, column in (
            (job_secrets, job_secrets.c.number),
            (job_variables, job_variables.c.job_id),
        ):
            after: Any = None
            while rows := await self._page(table, column, after):
                after = rows[-1]._mapping[column]
                opened = await asyncio.to_thread(_opened, keys, rows)
                anew = [
                    (row, text)
                    for row, key, text in opened
                    if renew and key not in ("", keys[0].id)
                ]
                done = await self._replace(table, keys[0], anew)
                renewed += done
                left = [key for _, key, _ in opened if not renew or key in ("", keys[0].id)]
                counts.update(left)
                counts[keys[0].id] += done
        return KeyUse(
            keys=[
                (key.id, counts[key.id])
                for key in keys
                if counts[key.id] or key in self._cipher.keys
            ],
            unreadable=counts[""],
            renewed=renewed,
            missing=await self.check(),
        )

    async def _page(self, table: Table, column: Column[Any], after: Any) -> Sequence[Row[Any]]:
        query = select(table).order_by(column).limit(_PAGE)
        if after is not None:
            query = query.where(column > after)
        async with self._database.read() as connection:
            return (await connection.execute(query)).all()

    async def _replace(
        self, table: Table, key: SecretKey, anew: Sequence[tuple[Row[Any], str]]
    ) -> int:
        if not anew:
            return 0
        done = 0
        async with self._database.write() as connection:
            for row, text in anew:
                fresh = key.encrypt(text, context=_context(row))
                same = (table.c.job_id == row.job_id) & (table.c.ciphertext == row.ciphertext)
                statement = update(table).where(same).values(ciphertext=fresh)
                done += (await connection.execute(statement)).rowcount
        return done

    async def _remember(self, key_id: str) -> None:
        async with self._database.write(lock=Lock.KEYS) as connection:
            await connection.execute(delete(facts).where(facts.c.name == _FACT))
            await connection.execute(insert(facts).values(name=_FACT, value=key_id))


def _opened(keys: Sequence[SecretKey], rows: Sequence[Row[Any]]) -> list[tuple[Row[Any], str, str]]:
    """Each with the ID of the key that opens it, empty when none does, and its text."""
    found = []
    for row in rows:
        tried = ((key.id, key.decrypt(row.ciphertext, context=_context(row))) for key in keys)
        key_id, text = next(((k, t) for k, t in tried if t is not None), ("", ""))
        found.append((row, key_id, text))
    return found


def _context(row: Row[Any]) -> tuple[str, ...]:
    if "site_url" in row._mapping:
        return secret_context(row)
    return variables_context(row.job_id)
