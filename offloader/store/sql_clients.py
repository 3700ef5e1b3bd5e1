"""Clients and their bearer sessions in SQL: what `clientauth` keeps, shared by all replicas."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from clientauth.sessions import StoredSession
from clientauth.store import ClientExists, ClientUnknown
from offloader.store.database import Database, Lock
from offloader.store.schema import clients, sessions


class SqlClientStore:
    """See `clientauth.store.ClientStore`. A client's session ends with its key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, client_id: str) -> str | None:
        if "\0" in client_id:
            return None
        query = select(clients.c.key_hash).where(clients.c.id == client_id)
        async with self._database.read() as connection:
            key_hash: str | None = (await connection.execute(query)).scalar_one_or_none()
            return key_hash

    async def put(self, client_id: str, key_hash: str) -> None:
        async with self._database.write() as connection:
            try:
                await connection.execute(insert(clients).values(id=client_id, key_hash=key_hash))
            except IntegrityError as error:
                raise ClientExists(client_id) from error

    async def replace(self, client_id: str, key_hash: str) -> None:
        async with self._database.write() as connection:
            known = clients.c.id == client_id
            done = await connection.execute(update(clients).where(known).values(key_hash=key_hash))
            if done.rowcount == 0:
                raise ClientUnknown(client_id)
            await connection.execute(delete(sessions).where(sessions.c.client_id == client_id))

    async def delete(self, client_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(sessions).where(sessions.c.client_id == client_id))
            await connection.execute(delete(clients).where(clients.c.id == client_id))

    async def ids(self) -> Sequence[str]:
        async with self._database.read() as connection:
            query = select(clients.c.id).order_by(clients.c.id)
            return list((await connection.execute(query)).scalars())


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
