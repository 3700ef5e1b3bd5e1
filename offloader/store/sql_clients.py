"""Clients and their bearer sessions in SQL: what `clientauth` keeps, shared by all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from clientauth.sessions import StoredSession
from clientauth.store import ClientExists, ClientUnknown, StoredClient
from offloader.models import UNMARKED
from offloader.store.database import Database, Lock
from offloader.store.schema import clients, job_secrets, jobs, sessions

_FORMER: Final = "former"
"""In place of a mark: of a registration that is gone, and had none."""


class SqlClientStore:
    """See `clientauth.store.ClientStore`. A client's session ends with its key. Jobs and tokens are what a
    registration owns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, client_id: str) -> str | None:
        if "\0" in client_id:
            return None
        query = select(clients.c.key_hash).where(clients.c.id == client_id)
        async with self._database.read() as connection:
            key_hash: str | None = (await connection.execute(query)).scalar_one_or_none()
            return key_hash

    async def find(self, client_id: str) -> StoredClient | None:
        if "\0" in client_id:
            return None
        async with self._database.read() as connection:
            return await _find(connection, client_id)

    async def put(
        self,
        client_id: str,
        key_hash: str,
        *,
        registration: str = "",
        former: Sequence[str] = (),
    ) -> None:
        row = {"id": client_id, **_marked(key_hash, registration)}
        async with self._database.write() as connection:
            try:
                await connection.execute(insert(clients).values(row))
            except IntegrityError as error:
                raise ClientExists(client_id) from error
            if registration:  # what is unmarked is the present registration's, hence not this one's
                await _hand_over(connection, client_id, UNMARKED, to=_FORMER)
            for mark in former:
                await _hand_over(connection, client_id, mark, to=registration)

    async def replace(self, client_id: str, key_hash: str, *, registration: str = "") -> None:
        async with self._database.write() as connection:
            found = await _find(connection, client_id, for_update=True)
            if found is None:
                raise ClientUnknown(client_id)
            await _mark(connection, client_id, key_hash, registration)
            await connection.execute(delete(sessions).where(sessions.c.client_id == client_id))

    async def settle(self, client_id: str, client: StoredClient, *, registration: str) -> None:
        async with self._database.write() as connection:
            if await _find(connection, client_id, for_update=True) != client:
                return
            await _mark(connection, client_id, client.key_hash, registration)

    async def adopt(self, client_id: str) -> int:
        """Give the present registration of this name what earlier ones left; returns how many jobs that are.

        Raises:
            ClientUnknown: nobody is registered by this name.
        """
        async with self._database.write() as connection:
            found = await _find(connection, client_id, for_update=True)
            if found is None:
                raise ClientUnknown(client_id)
            return await _hand_over(connection, client_id, None, to=found.registration)

    async def delete(self, client_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(sessions).where(sessions.c.client_id == client_id))
            await connection.execute(delete(clients).where(clients.c.id == client_id))

    async def ids(self) -> Sequence[str]:
        async with self._database.read() as connection:
            query = select(clients.c.id).order_by(clients.c.id)
            return list((await connection.execute(query)).scalars())

    async def count(self) -> int:
        async with self._database.read() as connection:
            counted = await connection.execute(select(func.count()).select_from(clients))
            return int(counted.scalar_one())


class SqlSessionStore:
    """See `clientauth.sessions.SessionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, client_id: str, token_hash: str, *, lifetime_s: float) -> None:
        async with self._database.write(lock=Lock.LOGIN) as connection:
            expires_at_ms = await self._database.now_ms(connection) + round(lifetime_s * 1000)
            values = {"token_hash": token_hash, "expires_at_ms": expires_at_ms}
            own = sessions.c.client_id == client_id
            done = await connection.execute(update(sessions).where(own).values(values))
            if done.rowcount == 0:
                await connection.execute(insert(sessions).values(client_id=client_id, **values))

    async def get(self, token_hash: str) -> StoredSession | None:
        query = select(sessions.c.client_id, sessions.c.expires_at_ms).where(
            sessions.c.token_hash == token_hash
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                return None
            now_ms = await self._database.now_ms(connection)
        return StoredSession(row.client_id, expired=now_ms >= row.expires_at_ms)

    async def delete(self, token_hash: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(sessions).where(sessions.c.token_hash == token_hash))

    async def delete_of(self, client_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(sessions).where(sessions.c.client_id == client_id))


async def _find(
    connection: AsyncConnection, client_id: str, *, for_update: bool = False
) -> StoredClient | None:
    query = select(clients).where(clients.c.id == client_id)
    if for_update:
        query = query.with_for_update()  # SQLite's transaction has locked everything already
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    mark = row.registration if row.marked_hash == row.key_hash else UNMARKED
    return StoredClient(row.key_hash, mark)


def _marked(key_hash: str, registration: str) -> dict[str, str]:
    return {"key_hash": key_hash, "registration": registration, "marked_hash": key_hash}


async def _mark(
    connection: AsyncConnection, client_id: str, key_hash: str, registration: str
) -> None:
    """Another mark for the present registration, and for what it owns."""
    own = clients.c.id == client_id
    stored = select(clients.c.registration).where(own)
    former: str = (await connection.execute(stored)).scalar_one()
    await connection.execute(update(clients).where(own).values(_marked(key_hash, registration)))
    for mark in {former, UNMARKED}:
        await _hand_over(connection, client_id, mark, to=registration)


async def _hand_over(
    connection: AsyncConnection, client_id: str, registration: str | None, *, to: str
) -> int:
    """What this name's `registration` (None: any other) owns is `to`'s; returns how many jobs that are."""
    moved = 0
    for table in (job_secrets, jobs):
        theirs = table.c.registration != to
        if registration is not None:
            theirs = and_(theirs, table.c.registration == registration)
        statement = update(table).where(table.c.client_id == client_id, theirs)
        values = {"registration": to}
        if table is jobs:  # whoever has read them looks again
            statement = statement.values(values | {"revision": jobs.c.revision + 1})
        else:
            statement = statement.values(values)
        moved = (await connection.execute(statement)).rowcount
    return moved


async def take_unmarked(connection: AsyncConnection, client_id: str, registration: str) -> None:
    """What an earlier release, which runs beside this one, took for this registration, if it is the present
    one of the name, is marked as its own."""
    found = await _find(connection, client_id)
    if registration and found is not None and found.registration == registration:
        await _hand_over(connection, client_id, UNMARKED, to=registration)
