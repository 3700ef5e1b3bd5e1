"""Jobs in SQL (SQLAlchemy Core): every rule is in the port, every column in `schema.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.clock import epoch_ms
from offloader.errors import JobNotFound
from offloader.models import LIVE_STATES, UNMARKED, Job, JobState, JobType
from offloader.store.base import DELETED_KEPT, HOST_LOST_AFTER_S, Claim, JobPage, Lease
from offloader.store.cursor import Cursor
from offloader.store.database import Database
from offloader.store.schema import deleted_jobs, job_from_row, job_to_row, job_variables, jobs
from offloader.store.sql_admissions import Admissions
from offloader.store.sql_secrets import forget_unless_newest
from offloader.store.sql_seen import SeenJobs, in_portions

_LIVE: Final = jobs.c.state.in_(sorted(state.value for state in LIVE_STATES))
_UNPUBLISHED: Final = and_(jobs.c.state == JobState.FINISHED.value, jobs.c.unpublished)
_RETRANSCRIBING: Final[ColumnElement[bool]] = jobs.c.retranscribing
"""Of finished jobs alone; written, as `unpublished` is, as its index is: SQLite would not use that else."""
_WITH_FILES: Final = text("(left_bytes IS NULL OR left_bytes > 0)")
_DELETED_KEPT_MS: Final = DELETED_KEPT // timedelta(milliseconds=1)
_PLACES: Final = (
    select(
        jobs.c.id,
        jobs.c.revision,
        jobs.c.state,
        jobs.c.owner,
        jobs.c.lease_until_ms,
        jobs.c.host,
        jobs.c.created_at_ms,
        jobs.c.retranscribing,
        jobs.c.retranscription,
    )
    .where(or_(_LIVE, _UNPUBLISHED, _RETRANSCRIBING))
    .order_by(jobs.c.created_at_ms)
)
"""What decides about leases, of every job that somebody has to watch over."""
_RENEW_BELOW: Final = 2 / 3
"""Of the lease's length: a replica writes every few seconds, not with every look."""
Changes = Sequence[tuple[Job | None, Job]]
"""Jobs before (None: it is new) and after."""
Recorder = Callable[[AsyncConnection, Changes], Awaitable[None]]


class SqlJobStore:
    """See `JobStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen = SeenJobs()
        self._recorders: list[Recorder] = []
        self._admissions = Admissions(
            database, self._seen, live=_LIVE, held=_held, record=self._record
        )

    def on_write(self, recorder: Recorder) -> None:
        """Call `recorder` in the transaction of every change, which is stored with what it writes or not at
        all."""
        self._recorders.append(recorder)

    async def aclose(self) -> None:
        """Wait for what is under way."""
        await self._admissions.aclose()

    async def reserve(
        self,
        job: Job,
        *,
        admits: Callable[[Sequence[Job], Job], bool],
        lease: Lease | None = None,
    ) -> None:
        await self._admissions.reserve(job, admits=admits, lease=lease)

    async def get(self, job_id: str) -> Job | None:
        async with self._database.read() as connection:
            return await _get(connection, job_id)

    async def change(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        async with self._database.write() as connection:
            job = await _get(connection, job_id, for_update=True)
            if job is None:
                raise JobNotFound(job_id)
            changed = change(job)
            if changed != job:
                row = job_to_row(changed) | {"revision": jobs.c.revision + 1}
                await connection.execute(update(jobs).where(jobs.c.id == job_id).values(row))
                await self._record(connection, [(job, changed)])
            return changed

    async def live(self) -> Sequence[Job]:
        async with self._database.read() as connection:
            found = await self._seen.read(connection, _LIVE)
        return [job for job in found if job.live]  # one may have ended between two statements

    async def finished_before(self, moment: datetime) -> Sequence[Job]:
        ended = jobs.c.state == JobState.FINISHED.value
        early = jobs.c.stopped_at_ms < epoch_ms(moment)
        async with self._database.read() as connection:
            return await _jobs(connection, and_(ended, early), order=jobs.c.stopped_at_ms)

    async def unpublished(self) -> Sequence[Job]:
        async with self._database.read() as connection:
            return await _jobs(connection, _UNPUBLISHED, order=jobs.c.stopped_at_ms)

    async def with_files(self) -> Sequence[Job]:
        ended = jobs.c.state == JobState.FINISHED.value
        async with self._database.read() as connection:
            return await _jobs(connection, and_(ended, _WITH_FILES), order=jobs.c.stopped_at_ms)

    async def to_delete(self) -> Sequence[Job]:
        async with self._database.read() as connection:
            return await _jobs(connection, jobs.c.deletion_at_ms.is_not(None))

    async def unpublished_bytes(self) -> int:
        query = select(func.coalesce(func.sum(jobs.c.left_bytes), 0)).where(_UNPUBLISHED)
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def retranscribing(self) -> Sequence[Job]:
        async with self._database.read() as connection:
            return await _jobs(connection, _RETRANSCRIBING, order=jobs.c.stopped_at_ms)

    async def list_jobs(
        self,
        *,
        client_id: str | None = None,
        registration: str | None = None,
        job_type: JobType | None = None,
        state: JobState | None = None,
        since: datetime | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        query = select(jobs).order_by(jobs.c.created_at_ms.desc(), jobs.c.id.desc())
        if client_id is not None:
            query = query.where(jobs.c.client_id == client_id)
        if registration is not None:
            query = query.where(jobs.c.registration.in_((registration, UNMARKED)))
        if job_type is not None:
            query = query.where(jobs.c.type == job_type.value)
        if state is not None:
            query = query.where(jobs.c.state == state.value)
        if since is not None:
            query = query.where(jobs.c.created_at_ms >= epoch_ms(since))
        if before is not None:
            query = query.where(_older_than(Cursor.parse(before)))
        async with self._database.read() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).mappings().all()
        page = [job_from_row(row) for row in rows[:limit]]
        return JobPage(page, str(Cursor.of(page[-1])) if len(rows) > limit else None)

    async def delete(self, job_id: str, *, files_left: bool = False) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(jobs).where(jobs.c.id == job_id))
            await connection.execute(delete(job_variables).where(job_variables.c.job_id == job_id))
            await forget_unless_newest(connection, job_id)
            if files_left:
                now_ms = await self._database.now_ms(connection)
                table = deleted_jobs.c
                old = or_(table.deleted_at_ms <= now_ms - _DELETED_KEPT_MS, table.job_id == job_id)
                await connection.execute(delete(deleted_jobs).where(old))
                row = {"job_id": job_id, "deleted_at_ms": now_ms}
                await connection.execute(insert(deleted_jobs).values(row))

    async def was_deleted(self, job_id: str) -> bool:
        async with self._database.read() as connection:
            young_ms = await self._database.now_ms(connection) - _DELETED_KEPT_MS
            query = select(deleted_jobs.c.job_id).where(
                deleted_jobs.c.job_id == job_id, deleted_jobs.c.deleted_at_ms > young_ms
            )
            return (await connection.execute(query)).first() is not None

    async def claim(self, lease: Lease, *, take: bool = True) -> Claim:
        async with self._database.read() as connection:
            now_ms = await self._database.now_ms(connection)
            rows = (await connection.execute(_PLACES)).mappings().all()
            places = [place for row in rows if (place := _Place(row, lease, now_ms)).in_reach]
            renewed = [place.job_id for place in places if place.wants_renewal]
            free = [place.job_id for place in places if take and place.free]
            wanted = {*renewed, *free}
            near = [place for place in places if place.mine or place.job_id in wanted]
            marks = [(place.job_id, place.row["revision"]) for place in near]
            found = await self._seen.current(connection, marks)
        got = await self._write_claim(lease, [*renewed, *free]) if wanted else frozenset()
        mine = [
            found[place.job_id]
            for place in near
            if place.job_id in found and (place.job_id in got or place.job_id not in wanted)
        ]
        ended = sorted(
            (job for job in mine if not job.live), key=lambda job: job.stopped_at or job.created_at
        )
        return Claim(
            live=[job for job in mine if job.live],
            unpublished=[job for job in ended if job.unpublished and job.host in lease.hosts],
            retranscribing=[job for job in ended if job.retranscribing],
            taken=got.intersection(free),
        )

    async def release(self, owner: str) -> None:
        async with self._database.write() as connection:
            now_ms = await self._database.now_ms(connection)
            free = {"owner": None, "lease_until_ms": now_ms}
            await connection.execute(update(jobs).where(jobs.c.owner == owner).values(free))

    async def _record(self, connection: AsyncConnection, changes: Changes) -> None:
        for recorder in self._recorders:
            await recorder(connection, changes)

    async def _write_claim(self, lease: Lease, job_ids: Sequence[str]) -> frozenset[str]:
        """Those of them that nobody else was faster to get."""
        async with self._database.write() as connection:
            now_ms = await self._database.now_ms(connection)
            got: set[str] = set()
            for ids in in_portions(job_ids):
                statement = (
                    update(jobs)
                    .where(jobs.c.id.in_(ids))
                    .where(or_(jobs.c.owner == lease.owner, _ownerless(lease, now_ms)))
                    .values(_held(lease, now_ms))
                    .returning(jobs.c.id)
                )
                got.update((await connection.execute(statement)).scalars())
            return frozenset(got)


@dataclass(frozen=True, slots=True)
class _Place:
    """A job's row as one replica sees it."""

    row: RowMapping
    lease: Lease
    now_ms: int

    @property
    def job_id(self) -> str:
        return str(self.row["id"])

    @property
    def in_reach(self) -> bool:
        """A result on another host is that host's, for ever."""
        ended = self.row["state"] == JobState.FINISHED.value
        return self._of_this_host or not ended or self.row["retranscribing"]

    @property
    def mine(self) -> bool:
        return bool(self.row["owner"] == self.lease.owner)

    @property
    def wants_renewal(self) -> bool:
        left_ms = self.row["lease_until_ms"] - self.now_ms if self.mine else 0
        ttl_ms = self.lease.ttl_s * 1000
        return self.mine and not _RENEW_BELOW * ttl_ms <= left_ms <= ttl_ms

    @property
    def free(self) -> bool:
        """Nobody watches over it, and this replica may."""
        row, until_ms = self.row, self.row["lease_until_ms"]
        if row["owner"] is not None and (
            self.mine or self.now_ms < until_ms <= _longest_ms(self.lease, self.now_ms)
        ):
            return False
        if self._of_this_host:
            return True
        since_ms = row["created_at_ms"] if until_ms is None else until_ms
        if row["retranscribing"]:  # nobody watched over it before
            since_ms = max(since_ms, row["retranscription"]["requested_at_ms"])
        return bool(self.now_ms - since_ms >= HOST_LOST_AFTER_S * 1000)

    @property
    def _of_this_host(self) -> bool:
        return self.row["host"] in self.lease.hosts


def _ownerless(lease: Lease, now_ms: int) -> ColumnElement[bool]:
    return or_(
        jobs.c.owner.is_(None),
        jobs.c.lease_until_ms <= now_ms,
        jobs.c.lease_until_ms > _longest_ms(lease, now_ms),
    )


def _longest_ms(lease: Lease, now_ms: int) -> int:
    """An end beyond this was written before the clock was set back, and counts as past."""
    return now_ms + round(2 * lease.ttl_s * 1000)


def _held(lease: Lease, now_ms: int) -> dict[str, Any]:
    return {"owner": lease.owner, "lease_until_ms": now_ms + round(lease.ttl_s * 1000)}


def _older_than(cursor: Cursor) -> ColumnElement[bool]:
    same_moment = jobs.c.created_at_ms == cursor.created_at_ms
    return or_(
        jobs.c.created_at_ms < cursor.created_at_ms,
        and_(same_moment, jobs.c.id < cursor.job_id),
    )


async def _get(connection: AsyncConnection, job_id: str, *, for_update: bool = False) -> Job | None:
    if "\0" in job_id:
        return None  # PostgreSQL would call it an error
    query = select(jobs).where(jobs.c.id == job_id)
    if for_update:
        query = query.with_for_update()  # SQLite's transaction has locked everything already
    row = (await connection.execute(query)).mappings().first()
    return None if row is None else job_from_row(row)


async def _jobs(
    connection: AsyncConnection,
    condition: ColumnElement[bool],
    *,
    order: ColumnElement[Any] = jobs.c.created_at_ms,
) -> list[Job]:
    query = select(jobs).where(condition).order_by(order, jobs.c.id)
    return [job_from_row(row) for row in (await connection.execute(query)).mappings()]
