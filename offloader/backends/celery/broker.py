"""The broker as the service uses it: publish a launch, ask who the workers are.

Celery's calls block, so they run in threads of their own; every one is given up after a while, whatever the
broker does, and its thread ends by the sockets' own time-outs.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from kombu.utils.url import maybe_sanitize_url

from foundation.logs import get_logger
from offloader.backends.celery.app import PUBLISHERS, celery_app, durable_queue
from offloader.backends.celery.messages import (
    CARD_COMMAND,
    LAUNCH_TASK,
    card_context,
)
from offloader.backends.remote.wire import WireError, WorkerCard, unseal
from offloader.errors import BackendError
from offloader.setting_celery import CelerySettings
from offloader.store.secret_key import Cipher

_PATIENCE_S: Final = 2.0
"""For one answer of the broker."""
_PUBLISH_S: Final = 5.0
_REPLIES_S: Final = 1.0
"""Workers answer from memory."""
_ASK_S: Final = 5.0
_END_S: Final = 5.0
_FORGET_AFTER_S: Final = 3600
"""Far beyond any difference between two hosts' clocks: a launch that nobody waits for is refused anyhow."""
_RETRIES: Final = {
    "max_retries": 2,
    "interval_start": 0.0,
    "interval_step": 0.5,
    "interval_max": 0.5,
}

Answer = TypeVar("Answer")

log = get_logger()


class Broker:
    """Lives on the event loop."""

    def __init__(
        self, settings: CelerySettings, *, cipher: Cipher, ca_cert_file: Path | None = None
    ) -> None:
        self._name = maybe_sanitize_url(settings.broker_url)
        self._cipher = cipher
        self._app = celery_app(settings, patience_s=_PATIENCE_S, ca_cert_file=ca_cert_file)
        self._publishers = ThreadPoolExecutor(PUBLISHERS, "celery-publish")
        self._asker = ThreadPoolExecutor(1, "celery-ask")
        """One, since replies come to a queue of the thread's own."""
        self._asking: Any = None
        self._told_of_strangers = False

    async def publish(
        self, job_id: str, sealed: str, *, queue: str, task: str = LAUNCH_TASK
    ) -> None:
        """Put a launch, or another sealed order about a job, into a queue.

        Raises:
            BackendError: the broker did not confirm it in time; it may have it or not.
        """
        await self._in_thread(
            self._publishers, _PUBLISH_S, lambda: self._publish(task, job_id, sealed, queue)
        )

    async def cards(self) -> Sequence[WorkerCard]:
        """What the workers say that answer within a second.

        Raises:
            BackendError: the broker cannot be used.
        """
        nonce = secrets.token_urlsafe()
        replies = await self._in_thread(self._asker, _ASK_S, lambda: self._ask(nonce))
        return [card for reply in replies if (card := self._card(reply, nonce)) is not None]

    async def aclose(self) -> None:
        """Let go of the connections. Idempotent."""
        for executor in (self._publishers, self._asker):
            executor.shutdown(wait=False, cancel_futures=True)
        try:
            async with asyncio.timeout(_END_S):
                await asyncio.to_thread(self._close)
        except TimeoutError:
            log.warning("broker.not_closed_in_time")

    async def _in_thread(
        self, executor: ThreadPoolExecutor, limit_s: float, work: Callable[[], Answer]
    ) -> Answer:
        try:
            async with asyncio.timeout(limit_s):
                return await asyncio.get_running_loop().run_in_executor(executor, work)
        except TimeoutError as error:
            raise BackendError(
                f"the broker {self._name} does not answer within {limit_s:g} s"
            ) from error
        except Exception as error:
            # Each transport of kombu raises errors of its own library.
            reason = str(error) or type(error).__name__
            raise BackendError(f"the broker {self._name} cannot be used: {reason}") from error

    def _publish(self, task: str, job_id: str, sealed: str, queue: str) -> None:
        self._app.send_task(
            task,
            kwargs={"job_id": job_id, "sealed": sealed},
            queue=durable_queue(queue),
            expires=_FORGET_AFTER_S,
            argsrepr="()",
            kwargsrepr=repr({"job_id": job_id}),  # what tools that watch Celery show
            ignore_result=True,
            retry=True,
            retry_policy=_RETRIES,
        )

    def _ask(self, nonce: str) -> list[Any]:
        fresh = self._asking is None
        try:
            return self._ask_once(nonce)
        except Exception:
            if fresh:
                raise
            return self._ask_once(nonce)  # the connection had ended meanwhile; the next one tells

    def _ask_once(self, nonce: str) -> list[Any]:
        if self._asking is None:
            self._asking = self._app.connection_for_write()
        try:
            replies = self._app.control.broadcast(
                CARD_COMMAND,
                arguments={"nonce": nonce},
                reply=True,
                timeout=_REPLIES_S,
                connection=self._asking,
            )
        except BaseException:
            connection, self._asking = self._asking, None
            connection.release()
            raise
        finally:
            self._app.control.mailbox.unclaimed.clear()  # kombu keeps answers that came too late for ever
        return [reply for found in replies or () for reply in found.values()]

    def _card(self, reply: Any, nonce: str) -> WorkerCard | None:
        sealed = reply.get("sealed") if isinstance(reply, dict) else None
        document = unseal(self._cipher, str(sealed), context=card_context(nonce))
        try:
            if document is not None:
                return WorkerCard.of(document)
            reason = "it has another OFFLOADER_SECRET_KEY or key file"
        except WireError as error:
            reason = str(error)
        if not self._told_of_strangers:
            log.warning("worker.unreadable", reason=reason)
        self._told_of_strangers = True
        return None

    def _close(self) -> None:
        for executor in (self._publishers, self._asker):
            executor.shutdown(wait=True)
        connection, self._asking = self._asking, None
        if connection is not None:
            connection.release()
        self._app.close()
