"""The jobs' tokens and other secret variables in SQL, encrypted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Row, delete, exists, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.logs import get_logger
from offloader.models import JobState
from offloader.store.base import TokenHolder
from offloader.store.database import Database
from offloader.store.schema import job_secrets, job_variables, jobs
from offloader.store.secret_key import Cipher
from offloader.store.sql_clients import take_unmarked

_TRIED: Final = 5
"""So many of the newest tokens for a site: after a change of the key the very newest can be read."""

_VARIABLES: Final = "variables"
"""Part of what has to be named again to decrypt them."""

log = get_logger()


class SqlSecretStore:
    """See `SecretStore`."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher

    async def put_secret(
        self,
        job_id: str,
        client_id: str,
        site_url: str,
        auth_token: str,
        *,
        registration: str = "",
    ) -> None:
        context = (job_id, client_id, site_url)  # as in secret_context
        ciphertext = self._cipher.encrypt(auth_token, context=context)
        async with self._database.write() as connection:
            await connection.execute(delete(job_secrets).where(job_secrets.c.job_id == job_id))
            await _forget_leftovers(connection, client_id, site_url)
            row = {
                "job_id": job_id,
                "client_id": client_id,
                "site_url": site_url,
                "ciphertext": ciphertext,
                "created_at_ms": await self._database.now_ms(connection),
                "registration": registration,
            }
            await connection.execute(insert(job_secrets).values(row))
            await take_unmarked(connection, client_id, registration)  # it is good for that, too

    async def secret(self, job_id: str) -> str | None:
        if "\0" in job_id:
            return None
        query = select(job_secrets).where(job_secrets.c.job_id == job_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else self._decrypt(row)

    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        query = (
            select(job_secrets)
            .where(job_secrets.c.client_id == client_id, job_secrets.c.site_url == site_url)
            .where(job_secrets.c.registration == registration)
            .order_by(job_secrets.c.number.desc())
            .limit(_TRIED)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return next((text for row in rows if (text := self._decrypt(row)) is not None), None)

    async def holders(
        self, *, least_age_s: float = 0.0, after: str = "", limit: int = 1000
    ) -> Sequence[TokenHolder]:
        table = job_secrets.c
        whose = (table.client_id, table.registration, table.site_url)
        ended = or_(jobs.c.id.is_(None), jobs.c.state == JobState.FINISHED.value)
        query = (
            select(table.job_id, table.created_at_ms, *whose)
            .select_from(job_secrets.outerjoin(jobs, jobs.c.id == table.job_id))
            .where(ended, table.job_id > after)
            .order_by(table.job_id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            until_ms = await self._database.now_ms(connection) - round(least_age_s * 1000)
            old = query.where(table.created_at_ms <= until_ms)
            rows = (await connection.execute(old)).all()
        return [
            TokenHolder(job_id, (client, mark, site), at_ms)
            for job_id, at_ms, client, mark, site in rows
        ]

    async def forget_secret(self, job_id: str, *, held: TokenHolder | None = None) -> None:
        row = delete(job_secrets).where(job_secrets.c.job_id == job_id)
        if held is not None:
            _, registration, _ = held.place  # it is handed over when its client is marked anew
            row = row.where(job_secrets.c.created_at_ms == held.put_at_ms)
            row = row.where(job_secrets.c.registration == registration)
        async with self._database.write() as connection:
            await connection.execute(row)

    async def put_variables(self, job_id: str, variables: Mapping[str, str]) -> None:
        context = variables_context(job_id)
        ciphertext = self._cipher.encrypt(json.dumps(dict(variables)), context=context)
        async with self._database.write() as connection:
            await connection.execute(delete(job_variables).where(job_variables.c.job_id == job_id))
            row = {"job_id": job_id, "ciphertext": ciphertext}
            await connection.execute(insert(job_variables).values(row))

    async def variables(self, job_id: str) -> Mapping[str, str]:
        query = select(job_variables).where(job_variables.c.job_id == job_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return {}
        text = self._cipher.decrypt(row.ciphertext, context=variables_context(job_id))
        if text is None:
            log.warning("secrets.unreadable", job_id=job_id, cause="stored under another key")
            return {}
        return {str(name): str(value) for name, value in json.loads(text).items()}

    def fingerprint(self, variables: Mapping[str, str]) -> str:
        return self._cipher.fingerprint(json.dumps(dict(variables), sort_keys=True))

    def _decrypt(self, row: Row[tuple[object, ...]]) -> str | None:
        text = self._cipher.decrypt(row.ciphertext, context=secret_context(row))
        if text is None:
            log.warning("secrets.unreadable", job_id=row.job_id, cause="stored under another key")
        return text


def secret_context(row: Row[tuple[object, ...]]) -> tuple[str, str, str]:
    """What a job's token is bound to."""
    return row.job_id, row.client_id, row.site_url


def variables_context(job_id: str) -> tuple[str, str]:
    """What a job's secret variables are bound to."""
    return job_id, _VARIABLES


async def forget_unless_newest(connection: AsyncConnection, job_id: str) -> None:
    """The token of a job that is forgotten; what may still heal other jobs of its client and site stays."""
    newer = job_secrets.alias()
    has_newer = exists().where(
        newer.c.client_id == job_secrets.c.client_id,
        newer.c.site_url == job_secrets.c.site_url,
        newer.c.registration == job_secrets.c.registration,
        newer.c.number > job_secrets.c.number,
    )
    await connection.execute(delete(job_secrets).where(job_secrets.c.job_id == job_id, has_newer))


async def _forget_leftovers(connection: AsyncConnection, client_id: str, site_url: str) -> None:
    """A newer token takes the place of those whose jobs are forgotten. Only the newest one can be such a
    token, or one of the newest when several came at once."""
    newest = (
        select(job_secrets.c.number)
        .where(job_secrets.c.client_id == client_id, job_secrets.c.site_url == site_url)
        .order_by(job_secrets.c.number.desc())
        .limit(_TRIED)
    )
    job_is_there = exists().where(jobs.c.id == job_secrets.c.job_id)
    await connection.execute(
        delete(job_secrets).where(job_secrets.c.number.in_(newest), ~job_is_there)
    )
