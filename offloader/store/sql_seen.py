"""Jobs as they were read last: with every look only those are read whole that have changed since.

Thousands of live jobs are looked at every second, and hardly one of them changes. Each row counts its
changes (`revision`), so that what is known of it is told current by a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncConnection

from offloader.models import Job
from offloader.store.schema import job_from_row, jobs

_AT_ONCE: Final = 500
"""Rows of one statement; drivers allow some thousands of parameters."""
_TOO_MANY: Final = 1024
"""So many more than were asked for last are forgotten."""


class SeenJobs:
    """One per store. Two looks at a time do each other no harm."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, Job]] = {}

    async def read(
        self,
        connection: AsyncConnection,
        condition: ColumnElement[bool],
        *,
        order: ColumnElement[Any] = jobs.c.created_at_ms,
    ) -> list[Job]:
        """The jobs of which `condition` holds. Of unchanged jobs the same objects as the last time."""
        query = select(jobs.c.id, jobs.c.revision).where(condition).order_by(order, jobs.c.id)
        marks = [(job_id, revision) for job_id, revision in (await connection.execute(query)).all()]
        found = await self.current(connection, marks)
        return [found[job_id] for job_id, _ in marks if job_id in found]

    async def current(
        self, connection: AsyncConnection, marks: Sequence[tuple[str, int]]
    ) -> dict[str, Job]:
        """The jobs of these IDs and revisions, or newer; without those that are gone."""
        found: dict[str, Job] = {}
        changed: list[str] = []
        known = self._seen.get
        for job_id, revision in marks:
            seen = known(job_id)
            if seen is not None and seen[0] == revision:
                found[job_id] = seen[1]
            else:
                changed.append(job_id)
        for ids in in_portions(changed):
            rows = await connection.execute(select(jobs).where(jobs.c.id.in_(ids)))
            for row in rows.mappings():
                job = found[row["id"]] = job_from_row(row)
                self._seen[job.id] = (row["revision"], job)
        if len(self._seen) > len(marks) + _TOO_MANY:
            self._seen = {job_id: self._seen[job_id] for job_id in found if job_id in self._seen}
        return found


def in_portions(job_ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """As many at a time as one statement takes."""
    for start in range(0, len(job_ids), _AT_ONCE):
        yield job_ids[start : start + _AT_ONCE]
