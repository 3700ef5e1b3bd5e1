"""Reservations that come at once are decided together: one lock, one look at what lives, one commit.

On a Monday at nine hundreds of jobs come within a second; each by itself would read what all others have
just read, and wait for a disk of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from offloader.errors import CapacityReached
from offloader.models import Job
from offloader.store.base import Lease
from offloader.store.database import Database, Lock
from offloader.store.schema import job_to_row, jobs
from offloader.store.sql_seen import SeenJobs

_AT_ONCE: Final = 100
_REST: Final = 3.0
"""Between two looks at what lives there is so much more time than the look took: of many jobs it takes some
hundredths of a second, which come as often as jobs do else."""
_LONGEST_REST_S: Final = 0.1
Admits = Callable[[Sequence[Job], Job], bool]


@dataclass(frozen=True, slots=True, eq=False)
class _Wish:
    job: Job
    admits: Admits
    lease: Lease | None
    outcome: asyncio.Future[None]


class Admissions:
    """One per store. In the order in which they came."""

    def __init__(
        self,
        database: Database,
        seen: SeenJobs,
        *,
        live: ColumnElement[bool],
        held: Callable[..., Any],
        record: Callable[[AsyncConnection, Sequence[tuple[None, Job]]], Awaitable[None]],
    ) -> None:
        """`live`: which rows are live jobs; `held(lease, now_ms)`: the columns of a lease. `record` is called
        in the transaction with those that are let in."""
        self._record = record
        self._database = database
        self._seen = seen
        self._live = live
        self._held = held
        self._waiting: list[_Wish] = []
        self._deciding: asyncio.Task[None] | None = None
        self._rested_s = 0.0
        """When the next look may begin, by the loop's clock."""

    async def reserve(self, job: Job, *, admits: Admits, lease: Lease | None) -> None:
        """See `JobStore.reserve`. Cancelled, it has happened or has not."""
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wish = _Wish(job, admits, lease, outcome)
        self._waiting.append(wish)
        if self._deciding is None or self._deciding.done():
            self._deciding = asyncio.create_task(self._decide(), name="admissions")
        try:
            await outcome
        finally:
            if wish in self._waiting:  # cancelled before its turn
                self._waiting.remove(wish)

    async def aclose(self) -> None:
        """Wait for what is being decided."""
        if self._deciding is not None:
            await asyncio.wait([self._deciding])

    async def _decide(self) -> None:
        while self._waiting:
            together: list[_Wish] = []
            try:
                if (rest_s := self._rested_s - _now_s()) > 0:
                    await asyncio.sleep(rest_s)
                await self._decide_together(together)
            except Exception as error:  # noqa: BLE001 - whoever waits is told it
                if len(together) > 1 and _is_about_a_row(error):
                    for wish in together:
                        await self._decide_alone(wish)
                else:
                    for wish in together or self._taken():
                        _tell(wish, error)
            except BaseException:
                for wish in [*together, *self._taken()]:
                    wish.outcome.cancel()
                raise

    async def _decide_alone(self, wish: _Wish) -> None:
        """What the database refuses of one job shall not cost the others theirs."""
        if wish.outcome.done():
            return
        try:
            await self._decide_together([wish], more=False)
        except Exception as error:  # noqa: BLE001 - it is told
            _tell(wish, error)

    async def _decide_together(self, together: list[_Wish], *, more: bool = True) -> None:
        """Fills `together` with whoever waits when it is their turn; tells them, unless it raises."""
        decided: list[tuple[_Wish, Exception | None]] = []
        async with self._database.write(lock=Lock.ADMIT) as connection:
            if more:
                together += self._taken()
            began_s = _now_s()
            live = await self._seen.read(connection, self._live)
            now_s = _now_s()
            self._rested_s = now_s + min(_REST * (now_s - began_s), _LONGEST_REST_S)
            rows = []
            admitted: list[tuple[None, Job]] = []
            now_ms = await self._database.now_ms(connection)
            for wish in together:
                if wish.outcome.done():
                    continue
                refusal = _refusal(wish, live)
                decided.append((wish, refusal))
                if refusal is None:
                    lease = wish.lease
                    job = wish.job if lease is None else replace(wish.job, host=lease.host)
                    live.append(job)
                    admitted.append((None, job))
                    none = {"owner": None, "lease_until_ms": None}
                    rows.append(
                        job_to_row(job) | (none if lease is None else self._held(lease, now_ms))
                    )
            if rows:
                await connection.execute(insert(jobs), rows)
                await self._record(connection, admitted)
        for wish, refusal in decided:
            _tell(wish, refusal)

    def _taken(self) -> list[_Wish]:
        taken = self._waiting[:_AT_ONCE]
        del self._waiting[:_AT_ONCE]
        return taken


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _refusal(wish: _Wish, live: Sequence[Job]) -> Exception | None:
    try:
        return None if wish.admits(live, wish.job) else CapacityReached()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is whose job it is about
        return error


def _tell(wish: _Wish, refusal: Exception | None) -> None:
    if wish.outcome.done():
        return
    if refusal is None:
        wish.outcome.set_result(None)
    else:
        wish.outcome.set_exception(refusal)


def _is_about_a_row(error: Exception) -> bool:
    """Not about the database as a whole, of which each of them would have to hear in its turn."""
    cause = error.__cause__
    return not isinstance(cause, OSError | TimeoutError) and not (
        isinstance(cause, DBAPIError) and cause.connection_invalidated
    )
