"""From a launch message to a running job: a place, the claim, the launch, the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from foundation.logs import get_logger
from offloader.backends.base import Backend, LaunchRequest
from offloader.backends.celery.messages import LaunchOrder
from offloader.errors import BackendError
from offloader.models import JobType
from offloader.store.secret_key import Cipher
from offloader.worker.books import Books
from offloader.worker.claims import Claims, ServiceUnreachable
from offloader.worker.lanes import Verdict

Prepare = Callable[[LaunchRequest], LaunchRequest]
"""Adds what this worker has to tell a job."""

log = get_logger()


class Launching:
    """Takes launch messages. Lives on the event loop."""

    def __init__(
        self,
        *,
        backend: Backend,
        books: Books,
        claims: Claims,
        cipher: Cipher,
        room: Callable[[JobType], bool],
        closed: Callable[[JobType], Awaitable[None]],
        changed: Callable[[], None],
        prepare: Prepare = lambda request: request,
    ) -> None:
        """`room`: whether a job of that type may be taken now. `closed`: stop taking them, and return when
        that holds. `changed`: the books have changed."""
        self._backend = backend
        self._books = books
        self._claims = claims
        self._cipher = cipher
        self._room = room
        self._closed = closed
        self._changed = changed
        self._prepare = prepare
        self._under_way: set[str] = set()
        """Jobs whose messages are in work."""

    async def take(self, message_id: str, arguments: Mapping[str, Any]) -> Verdict:
        """Launch the job of a message, if it is this worker's to launch and there is a place."""
        job_id = str(arguments.get("job_id", ""))
        order = LaunchOrder.unsealed(self._cipher, str(arguments.get("sealed", "")), job_id)
        if order is None:
            log.error(
                "launch.unreadable",
                job_id=job_id[:64],
                reason="sealed with another OFFLOADER_SECRET_KEY, or damaged",
            )
            return Verdict.DONE
        if job_id in self._under_way:
            return Verdict.DONE  # delivered again after the connection broke; the first one goes on
        self._under_way.add(job_id)
        try:
            return await self._take(job_id, message_id, order)
        finally:
            self._under_way.discard(job_id)

    async def _take(self, job_id: str, message_id: str, order: LaunchOrder) -> Verdict:
        known = self._books.entries.get(job_id)
        if known is not None and known.workload is not None:
            await self._answer_for_known(job_id, message_id, order)
            return Verdict.DONE
        if known is None:
            if not self._room(order.job_type):
                await self._closed(order.job_type)
                return Verdict.NO_ROOM
            self._books.reserve(job_id, order.job_type, message_id=message_id)
        self._changed()
        try:
            await self._claim_and_launch(job_id, order)
        finally:
            entry = self._books.entries.get(job_id)
            if entry is not None and entry.workload is None:
                self._books.release(job_id)
            self._changed()
        return Verdict.DONE

    async def _answer_for_known(self, job_id: str, message_id: str, order: LaunchOrder) -> None:
        """The same message again: the worker ended before it could tell. Another one: a second launch."""
        entry = self._books.entries[job_id]
        if not await self._is_mine(job_id, order):
            return
        assert entry.workload is not None
        same = entry.message_id in ("", message_id)
        refusal = f"worker has job {job_id} already"
        await self._claims.tell(order.claim_url, job_id, entry.workload if same else refusal)

    async def _claim_and_launch(self, job_id: str, order: LaunchOrder) -> None:
        if not await self._is_mine(job_id, order):
            return
        try:
            # Before the launch: a worker that ends in mid-launch knows its message again.
            await self._books.save()
            workload = await self._backend.launch(self._prepare(order.request(job_id)))
        except BackendError as error:
            log.error("job.launch_failed", job_id=job_id, error=str(error))
            await self._claims.tell(order.claim_url, job_id, str(error))
            return
        self._books.launched(job_id, workload)
        log.info("job.launched", job_id=job_id, type=order.job_type.value, runner=order.runner)
        await self._save()
        await self._claims.tell(order.claim_url, job_id, workload)

    async def _is_mine(self, job_id: str, order: LaunchOrder) -> bool:
        try:
            mine = await self._claims.claim(order.claim_url, job_id)
        except ServiceUnreachable as error:
            log.error("launch.not_claimed", job_id=job_id, reason=str(error))
            return False
        if not mine:
            log.info("launch.not_mine", job_id=job_id)
        return mine

    async def _save(self) -> None:
        """It runs, whatever the disk says: the backend finds it again."""
        try:
            await asyncio.shield(self._books.save())
        except BackendError as error:
            log.error("worker.books_not_saved", error=str(error))
