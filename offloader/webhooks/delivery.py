"""Delivers what waits: one replica at a time, to each receiver by itself, the events of a job in their order.

At least once: an event goes when its receiver has confirmed it. A receiver that fails is asked once a second
at most, each event ever later, and each for a day.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.errors import StoreError
from offloader.models import Job
from offloader.store.sql_webhooks import WaitingEvent
from offloader.webhooks.event import is_told
from offloader.webhooks.sender import ATTEMPT_S, NotDelivered, Sender

KEPT_FOR: Final = timedelta(hours=24)
MOST_WAITING: Final = 10_000
"""For each receiver; beyond that the oldest go."""
TURN_S: Final = 60.0
_RENEW_EVERY_S: Final = 15.0
_LOOK_EVERY_S: Final = 2.0
"""For what other replicas have added."""
_PAUSE_S: Final = 1.0
_AT_ONCE: Final = 8
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 3600.0

log = get_logger()


class Queue(Protocol):
    """`SqlWebhookQueue`, as it is used here."""

    def take_turn(self, owner: str, *, ttl_s: float) -> Awaitable[bool]: ...
    def end_turn(self, owner: str) -> Awaitable[None]: ...
    def due(self, webhook: str, *, limit: int) -> Awaitable[Sequence[WaitingEvent]]: ...
    def remove(self, number: int) -> Awaitable[None]: ...
    def postpone(self, number: int, *, wait_s: float) -> Awaitable[None]: ...
    def sweep(
        self, webhook: str, *, older_than_s: float, most: int
    ) -> Awaitable[tuple[int, int]]: ...
    def forget_others(self, webhooks: Sequence[str], *, older_than_s: float) -> Awaitable[None]: ...


class Delivery:
    """One per process; `run` it in a task, and end that by `end`: cancelled in the middle of a transaction it
    would leave the embedded database locked for a while."""

    def __init__(
        self, queue: Queue, senders: Mapping[str, Sender], *, clock: Clock, owner: str
    ) -> None:
        """`senders`: by the receivers' names. `owner`: what no other process calls itself."""
        self._queue = queue
        self._senders = senders
        self._clock = clock
        self._owner = owner
        self._turn_ends_ns = 0
        self._ending = asyncio.Event()
        self._sends: set[asyncio.Task[None]] = set()
        """Attempts under way."""
        self._woken = {name: asyncio.Event() for name in senders}
        self._failing: set[str] = set()
        """Receivers whose last attempt failed."""
        self.counts: Counter[tuple[str, str]] = Counter()
        """Attempts by receiver and outcome, `delivered` or `failed`; events by `given_up` and `dropped`."""

    @property
    def failing(self) -> frozenset[str]:
        """Receivers whose last attempt from here failed."""
        return frozenset(self._failing)

    def job_changed(self, before: Job | None, after: Job) -> None:
        """See `offloader.store.observed.Observer`: there is something to deliver."""
        if is_told(before, after):
            for woken in self._woken.values():
                woken.set()

    async def run(self) -> None:
        """Until `end`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_turn(), name="webhooks-turn")
            for name in self._senders:
                tasks.create_task(self._serve(name), name=f"webhook-{name}")

    def end(self) -> None:
        """Break off attempts, and let `run` return. Idempotent."""
        self._ending.set()
        for woken in self._woken.values():
            woken.set()
        for send in self._sends:
            send.cancel()

    async def end_turn(self) -> None:
        """After `run` has ended: let another replica go on at once."""
        try:
            await self._queue.end_turn(self._owner)
        except StoreError as error:
            log.warning("webhooks.turn_not_ended", error=str(error))

    async def _keep_turn(self) -> None:
        while not self._ending.is_set():
            began_ns = self._clock.monotonic_ns()
            try:
                if await self._queue.take_turn(self._owner, ttl_s=TURN_S):
                    await self._sweep()
                    self._turn_ends_ns = began_ns + round(TURN_S * 1e9)
                else:
                    self._turn_ends_ns = 0
            except StoreError as error:
                log.warning("webhooks.not_looked_for", error=str(error))
            except Exception:  # a defect here must not end all deliveries
                log.exception("webhooks.turn_failed")
            await _wait_for(self._ending, _RENEW_EVERY_S)

    async def _sweep(self) -> None:
        for name in self._senders:
            given_up, dropped = await self._queue.sweep(
                name, older_than_s=KEPT_FOR.total_seconds(), most=MOST_WAITING
            )
            for outcome, count in (("given_up", given_up), ("dropped", dropped)):
                if count:
                    self.counts[name, outcome] += count
                    log.error("webhook.events_lost", webhook=name, reason=outcome, events=count)
        day_s = KEPT_FOR.total_seconds()
        await self._queue.forget_others(tuple(self._senders), older_than_s=day_s)

    async def _serve(self, name: str) -> None:
        woken = self._woken[name]
        while not self._ending.is_set():
            woken.clear()
            more = False
            try:
                more = self._ours() and await self._some(name)
            except StoreError as error:
                log.warning("webhooks.not_looked_for", error=str(error))
            except Exception:  # as above
                log.exception("webhook.failed", webhook=name)
            if name in self._failing:
                await _wait_for(self._ending, _PAUSE_S)  # whatever changes meanwhile
            elif not more and not self._ending.is_set():
                await _wait_for(woken, _LOOK_EVERY_S)

    async def _some(self, name: str) -> bool:
        """Whether there may be more at once."""
        limit = 1 if name in self._failing else _AT_ONCE
        events = await self._queue.due(name, limit=limit)
        tried = [self._deliver(name, event) for event in events]
        outcomes = await asyncio.gather(*tried, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return bool(events)

    async def _deliver(self, name: str, event: WaitingEvent) -> None:
        if not self._ours() or self._ending.is_set():
            return
        send = asyncio.ensure_future(self._send(name, event))
        self._sends.add(send)
        send.add_done_callback(self._sends.discard)
        await asyncio.wait([send])
        if send.cancelled():
            return  # this process ends; another one asks again
        try:
            send.result()
        except NotDelivered as error:
            if name not in self._failing:
                log.warning(
                    "webhook.not_delivered",
                    webhook=name,
                    job_id=event.job_id,
                    event_id=event.event_id,
                    reason=str(error),
                )
            self._failing.add(name)
            await self._queue.postpone(event.number, wait_s=wait_s(event.attempts))
            self.counts[name, "failed"] += 1
            return
        if name in self._failing:
            self._failing.discard(name)
            log.info("webhook.delivers_again", webhook=name)
        await self._queue.remove(event.number)
        self.counts[name, "delivered"] += 1

    async def _send(self, name: str, event: WaitingEvent) -> None:
        await self._senders[name].send(event.event_id, event.body)

    def _ours(self) -> bool:
        """Whether an attempt that begins now ends within this replica's turn."""
        left_ns = self._turn_ends_ns - self._clock.monotonic_ns()
        return left_ns > 2 * ATTEMPT_S * 1e9


async def _wait_for(event: asyncio.Event, limit_s: float) -> None:
    """Until it is set, or the time has passed."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return


def wait_s(attempts: int) -> float:
    """After `attempts` failed ones and another: 5 s, twice as long each time, an hour at most, and not all in
    step."""
    steady_s = min(_FIRST_WAIT_S * 2.0 ** min(attempts, 16), _LONGEST_WAIT_S)
    return steady_s * random.uniform(0.8, 1.2)  # nosec B311  # no secret
