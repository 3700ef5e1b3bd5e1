"""The jobs' tokens in SQL, encrypted."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Row, delete, exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.logs import get_logger
from offloader.store.database import Database
from offloader.store.schema import job_secrets, jobs
from offloader.store.secret_key import Cipher

_TRIED: Final = 5
"""So many of the newest tokens for a site: after a change of the key the very newest can be read."""

log = get_logger()


class SqlSecretStore:
    """See `SecretStore`."""

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher

    async def put_secret(self, job_id: str, client_id: str, site_url: str, auth_token: str) -> None:
        context = (job_id, client_id, site_url)
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
            }
            await connection.execute(insert(job_secrets).values(row))

    async def secret(self, job_id: str) -> str | None:
        if "\0" in job_id:
            return None
        query = select(job_secrets).where(job_secrets.c.job_id == job_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else self._decrypt(row)

    async def newest_secret(self, client_id: str, site_url: str) -> str | None:
        query = (
            select(job_secrets)
            .where(job_secrets.c.client_id == client_id, job_secrets.c.site_url == site_url)
            .order_by(job_secrets.c.number.desc())
            .limit(_TRIED)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return next((text for row in rows if (text := self._decrypt(row)) is not None), None)

    async def forget_secret(self, job_id: str) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(job_secrets).where(job_secrets.c.job_id == job_id))

    def _decrypt(self, row: Row[tuple[object, ...]]) -> str | None:
        context = (row.job_id, row.client_id, row.site_url)
        text = self._cipher.decrypt(row.ciphertext, context=context)
        if text is None:
            log.warning("secrets.unreadable", job_id=row.job_id, cause="stored under another key")
        return text


async def forget_unless_newest(connection: AsyncConnection, job_id: str) -> None:
    """The token of a job that is forgotten; what may still heal other jobs of its client and site stays."""
    newer = job_secrets.alias()
    has_newer = exists().where(
        newer.c.client_id == job_secrets.c.client_id,
        newer.c.site_url == job_secrets.c.site_url,
        newer.c.number > job_secrets.c.number,
    )
    await connection.execute(delete(job_secrets).where(job_secrets.c.job_id == job_id, has_newer))


async def _forget_leftovers(connection: AsyncConnection, client_id: str, site_url: str) -> None:
    """A newer token takes the place of those whose jobs are forgotten."""
    await connection.execute(
        delete(job_secrets).where(
            job_secrets.c.client_id == client_id,
            job_secrets.c.site_url == site_url,
            job_secrets.c.job_id.not_in(select(jobs.c.id)),
        )
    )
