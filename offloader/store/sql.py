"""Jobs and clients in SQL (SQLAlchemy Core): every rule is in the port, every column in `schema.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from clientauth.store import ClientExists
from foundation.clock import epoch_ms
from offloader.errors import CapacityReached, JobNotFound
from offloader.models import LIVE_STATES, Job, JobState
from offloader.store.database import Database
from offloader.store.schema import clients, job_from_row, job_to_row, jobs


class SqlJobStore:
    """See `JobStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, job: Job, *, admits: Callable[[Sequence[Job], Job], bool]) -> None:
        async with self._database.write() as connection:
            if not admits(await _live(connection), job):
                raise CapacityReached
            await connection.execute(insert(jobs).values(job_to_row(job)))

    async def get(self, job_id: str) -> Job | None:
        async with self._database.read() as connection:
            return await _get(connection, job_id)

    async def change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        async with self._database.write() as connection:
            job = await _get(connection, job_id)
            if job is None:
                raise JobNotFound(job_id)
            changed = change(job)
            if changed != job:
                await connection.execute(
                    update(jobs).where(jobs.c.id == job_id).values(job_to_row(changed))
                )
            return changed

    async def live(self) -> Sequence[Job]:
        async with self._database.read() as connection:
            return await _live(connection)

    async def finished_before(self, moment: datetime) -> Sequence[Job]:
        query = (
            select(jobs)
            .where(jobs.c.state == JobState.FINISHED.value)
            .where(jobs.c.stopped_at_ms < epoch_ms(moment))
            .order_by(jobs.c.stopped_at_ms)
        )
        async with self._database.read() as connection:
            return [job_from_row(row) for row in (await connection.execute(query)).mappings()]

    async def unpublished(self) -> Sequence[Job]:
        query = (
            select(jobs)
            .where(jobs.c.state == JobState.FINISHED.value)
            .where(jobs.c.unpublished.is_(True))
            .order_by(jobs.c.stopped_at_ms)
        )
        async with self._database.read() as connection:
            return [job_from_row(row) for row in (await connection.execute(query)).mappings()]

    async def delete(self, job_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(jobs).where(jobs.c.id == job_id))


class SqlClientStore:
    """See `clientauth.store.ClientStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, client_id: str) -> str | None:
        query = select(clients.c.key_hash).where(clients.c.id == client_id)
        async with self._database.read() as connection:
            key_hash: str | None = (await connection.execute(query)).scalar_one_or_none()
            return key_hash

    async def put(self, client_id: str, key_hash: str) -> None:
        async with self._database.write() as connection:
            query = select(clients.c.id).where(clients.c.id == client_id)
            if (await connection.execute(query)).first() is not None:
                raise ClientExists(client_id)
            await connection.execute(insert(clients).values(id=client_id, key_hash=key_hash))

    async def delete(self, client_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(clients).where(clients.c.id == client_id))


async def _get(connection: AsyncConnection, job_id: str) -> Job | None:
    row = (await connection.execute(select(jobs).where(jobs.c.id == job_id))).mappings().first()
    return None if row is None else job_from_row(row)


async def _live(connection: AsyncConnection) -> list[Job]:
    states = sorted(state.value for state in LIVE_STATES)
    query = select(jobs).where(jobs.c.state.in_(states)).order_by(jobs.c.created_at_ms)
    return [job_from_row(row) for row in (await connection.execute(query)).mappings()]
