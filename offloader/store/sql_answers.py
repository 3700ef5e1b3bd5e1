"""Answers to repeated requests in SQL."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from offloader.store.base import ANSWERS_KEPT
from offloader.store.database import Database
from offloader.store.schema import answers

_KEPT_MS = ANSWERS_KEPT // timedelta(milliseconds=1)


class SqlAnswerStore:
    """See `AnswerStore`. Keys are stored as SHA-256: whatever a client sends, they fit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember_answer(self, client_id: str, key: str, job_id: str) -> str:
        while not await self._bind(client_id, key, job_id):
            if (bound_to := await self.answer_of(client_id, key)) is not None:
                return bound_to
        return job_id

    async def answer_of(self, client_id: str, key: str) -> str | None:
        query = select(answers.c.job_id, answers.c.expires_at_ms).where(_bound(client_id, key))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
            if row is None or row.expires_at_ms <= await self._database.now_ms(connection):
                return None
            return str(row.job_id)

    async def forget_answer(self, client_id: str, key: str, job_id: str) -> None:
        own = and_(_bound(client_id, key), answers.c.job_id == job_id)
        async with self._database.write() as connection:
            await connection.execute(delete(answers).where(own))

    async def _bind(self, client_id: str, key: str, job_id: str) -> bool:
        """False: it is bound already."""
        try:
            async with self._database.write() as connection:
                now_ms = await self._database.now_ms(connection)
                await connection.execute(delete(answers).where(answers.c.expires_at_ms <= now_ms))
                row = {
                    "client_id": client_id,
                    "key_hash": _hash(key),
                    "job_id": job_id,
                    "expires_at_ms": now_ms + _KEPT_MS,
                }
                try:
                    await connection.execute(insert(answers).values(row))
                except IntegrityError as error:
                    raise _Bound from error
        except _Bound:
            return False
        return True


class _Bound(Exception):
    """Ends the transaction."""


def _bound(client_id: str, key: str) -> ColumnElement[bool]:
    return and_(answers.c.client_id == client_id, answers.c.key_hash == _hash(key))


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
