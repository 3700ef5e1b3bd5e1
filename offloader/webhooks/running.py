"""The parts of this package, wired to a running service."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.clock import Clock
from offloader.setting_watching import NotifySettings
from offloader.store.observed import ObservedJobStore
from offloader.store.sql import Changes
from offloader.store.sql_webhooks import SqlWebhookQueue
from offloader.store.stores import Stores
from offloader.webhooks.delivery import Delivery
from offloader.webhooks.event import event_body, is_told
from offloader.webhooks.sender import HttpSender

OUTCOMES: Final = ("delivered", "failed", "given_up", "dropped")
"""See `Delivery.counts`."""


class Webhooks:
    """What is told to whom."""

    def __init__(self, queue: SqlWebhookQueue, delivery: Delivery | None, names: list[str]) -> None:
        """`delivery`: None: nobody is told anything."""
        self._queue = queue
        self._delivery = delivery
        self._names = names

    async def families(self) -> list[Metric]:
        """Metrics by receiver. Raises StoreError."""
        if self._delivery is None:
            return []
        events = CounterMetricFamily(
            "calls_offloader_webhook_events",
            "Attempts that were delivered or failed; events given_up after a day, or dropped as too many.",
            labels=("webhook", "outcome"),
        )
        waiting = GaugeMetricFamily(
            "calls_offloader_webhook_waiting_events", "Events to be delivered.", labels=("webhook",)
        )
        oldest = GaugeMetricFamily(
            "calls_offloader_webhook_oldest_age_seconds",
            "How long the oldest of them waits.",
            labels=("webhook",),
        )
        for name in self._names:
            for outcome in OUTCOMES:
                events.add_metric((name, outcome), self._delivery.counts[name, outcome])
            count, age_s = await self._queue.waiting(name)
            waiting.add_metric((name,), count)
            oldest.add_metric((name,), age_s)
        return [events, waiting, oldest]


@asynccontextmanager
async def telling_receivers(
    settings: NotifySettings, *, stores: Stores, store: ObservedJobStore, clock: Clock
) -> AsyncIterator[Webhooks]:
    """Receivers are told of every change of a job's state while the block runs.

    Raises:
        ConfigError: the file with a receiver's secret cannot be used.
    """
    queue = SqlWebhookQueue(stores.database)
    if not settings.webhooks:
        yield Webhooks(queue, None, [])
        return
    senders = {}
    for webhook in settings.webhooks:
        secret = await asyncio.to_thread(webhook.read_secret)
        senders[webhook.name] = HttpSender(webhook, secret, way=settings, clock=clock)
    names = list(senders)
    delivery = Delivery(queue, senders, clock=clock, owner=secrets.token_hex(8))
    stores.jobs.on_write(partial(record_events, queue, names))
    store.on_change(delivery.job_changed)
    task = asyncio.create_task(delivery.run(), name="webhooks")
    try:
        yield Webhooks(queue, delivery, names)
    finally:
        delivery.end()
        await task
        await delivery.end_turn()
        for sender in senders.values():
            await sender.aclose()


async def record_events(
    queue: SqlWebhookQueue, names: list[str], connection: AsyncConnection, changes: Changes
) -> None:
    """In the transaction of the changes: what of them is told to whom."""
    told = [after for before, after in changes if is_told(before, after)]
    if told:
        await queue.add(connection, names, told, event_body)
