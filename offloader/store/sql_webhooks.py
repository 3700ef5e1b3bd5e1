"""Events on their way to receivers, in SQL: written with the change that they tell of, gone when delivered.

So none is lost with a process, and none is told of a change that was not stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import and_, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from offloader.models import Job
from offloader.store.database import Database, Lock
from offloader.store.schema import webhook_events as events
from offloader.store.schema import webhook_turns as turns

_TURN: Final = "delivery"


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """One that is due."""

    number: int
    event_id: str
    job_id: str
    body: str
    attempts: int
    """That failed."""


class SqlWebhookQueue:
    """Every method raises StoreError for what the database refuses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        connection: AsyncConnection,
        webhooks: Sequence[str],
        jobs: Sequence[Job],
        body: Callable[[Job, str, int], str],
    ) -> None:
        """In the transaction of `connection`: what those jobs are now is to be told to each of `webhooks`.
        `body(job, event_id, at_ms)` writes it."""
        at_ms = await self._database.now_ms(connection)
        rows = []
        for job in jobs:
            event_id = secrets.token_hex(16)
            told = body(job, event_id, at_ms)
            rows += [
                {
                    "webhook": name,
                    "job_id": job.id,
                    "event_id": event_id,
                    "body": told,
                    "at_ms": at_ms,
                    "next_at_ms": at_ms,
                }
                for name in webhooks
            ]
        if rows:
            await connection.execute(insert(events), rows)

    async def take_turn(self, owner: str, *, ttl_s: float) -> bool:
        """Whether `owner` delivers for the next `ttl_s`: nobody else does, or it did already."""
        async with self._database.write(lock=Lock.DELIVER) as connection:
            now_ms = await self._database.now_ms(connection)
            until_ms = now_ms + round(ttl_s * 1000)
            held = {"owner": owner, "until_ms": until_ms}
            row = (await connection.execute(select(turns).where(turns.c.name == _TURN))).first()
            if row is None:
                await connection.execute(insert(turns).values(name=_TURN, **held))
                return True
            # An end that is too far away was written before the clock was set back.
            theirs = now_ms < row.until_ms <= now_ms + round(2 * ttl_s * 1000)
            if row.owner != owner and theirs:
                return False
            await connection.execute(update(turns).where(turns.c.name == _TURN).values(held))
            return True

    async def end_turn(self, owner: str) -> None:
        """`owner` delivers no more: another may at once. Idempotent."""
        async with self._database.write() as connection:
            await connection.execute(delete(turns).where(turns.c.owner == owner))

    async def due(self, webhook: str, *, limit: int) -> Sequence[WaitingEvent]:
        """The first event of each job, if its time has come, oldest first: later ones wait for it."""
        earlier = events.alias()
        first = ~exists().where(
            earlier.c.webhook == events.c.webhook,
            earlier.c.job_id == events.c.job_id,
            earlier.c.number < events.c.number,
        )
        async with self._database.read() as connection:
            now_ms = await self._database.now_ms(connection)
            query = (
                select(events)
                .where(events.c.webhook == webhook, events.c.next_at_ms <= now_ms, first)
                .order_by(events.c.number)
                .limit(limit)
            )
            rows = (await connection.execute(query)).all()
        return [
            WaitingEvent(row.number, row.event_id, row.job_id, row.body, row.attempts)
            for row in rows
        ]

    async def remove(self, number: int) -> None:
        """It is delivered. Idempotent."""
        async with self._database.write() as connection:
            await connection.execute(delete(events).where(events.c.number == number))

    async def postpone(self, number: int, *, wait_s: float) -> None:
        """An attempt has failed; not again before `wait_s`."""
        async with self._database.write() as connection:
            now_ms = await self._database.now_ms(connection)
            later = {
                "attempts": events.c.attempts + 1,
                "next_at_ms": now_ms + round(wait_s * 1000),
            }
            await connection.execute(update(events).where(events.c.number == number).values(later))

    async def sweep(self, webhook: str, *, older_than_s: float, most: int) -> tuple[int, int]:
        """Give up what is older than that, and of the rest the oldest beyond `most`: how many of each."""
        async with self._database.write() as connection:
            now_ms = await self._database.now_ms(connection)
            old = and_(
                events.c.webhook == webhook, events.c.at_ms < now_ms - round(older_than_s * 1000)
            )
            given_up = (await connection.execute(delete(events).where(old))).rowcount
            beyond = (
                select(events.c.number)
                .where(events.c.webhook == webhook)
                .order_by(events.c.number.desc())
                .offset(most)
                .limit(1)
            )
            newest = (await connection.execute(beyond)).scalar()
            if newest is None:
                return given_up, 0
            over = and_(events.c.webhook == webhook, events.c.number <= newest)
            return given_up, (await connection.execute(delete(events).where(over))).rowcount

    async def forget_others(self, webhooks: Sequence[str], *, older_than_s: float) -> None:
        """What was to be told to receivers that are not configured any more, after a while: another replica
        may still have them."""
        async with self._database.write() as connection:
            now_ms = await self._database.now_ms(connection)
            old = events.c.at_ms < now_ms - round(older_than_s * 1000)
            other = events.c.webhook.not_in(webhooks)
            await connection.execute(delete(events).where(old, other))

    async def waiting(self, webhook: str) -> tuple[int, float]:
        """How many wait, and since when the oldest does, seconds."""
        async with self._database.read() as connection:
            query = select(func.count(), func.min(events.c.at_ms)).where(
                events.c.webhook == webhook
            )
            count, oldest_ms = (await connection.execute(query)).one()
            if not count:
                return 0, 0.0
            now_ms = await self._database.now_ms(connection)
        return int(count), max(now_ms - oldest_ms, 0) / 1000
