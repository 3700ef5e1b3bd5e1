"""The parts of this package, wired to a running service."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from foundation.clock import Clock
from offloader.certificate import certificate_end
from offloader.condition import Condition
from offloader.errors import StoreError
from offloader.notify.causes import Look
from offloader.notify.lines import Lines
from offloader.notify.notifier import Notifier
from offloader.notify.told import Told
from offloader.notify.webhook import MattermostWebhook
from offloader.outbox import Outbox
from offloader.settings import Settings
from offloader.store.base import AnswerStore
from offloader.store.observed import ObservedJobStore

_LOOK_S: Final = 20.0
"""A service that cannot be looked at in that time is not well."""


@asynccontextmanager
async def notifying(
    settings: Settings,
    *,
    condition: Condition,
    outbox: Outbox,
    store: ObservedJobStore,
    answers: AnswerStore,
    clock: Clock,
    on_lost: Callable[[], None],
) -> AsyncIterator[None]:
    """The admins' channel gets its lines while the block runs, where there is one. `on_lost` is called for
    each that did not arrive."""
    if not settings.notify.webhook:
        yield
        return
    sender = MattermostWebhook(settings.notify)
    lines = Lines(sender, on_lost=on_lost)
    notifier = Notifier(
        look=partial(_look, settings, condition, outbox),
        told=Told(answers),
        say=lines.say,
        clock=clock,
        where=socket.gethostname(),
    )
    store.on_change(notifier.job_changed)
    tasks = [
        asyncio.create_task(lines.run(), name="notify-lines"),
        asyncio.create_task(notifier.run(), name="notify"),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await sender.aclose()


async def _look(settings: Settings, condition: Condition, outbox: Outbox) -> Look:
    fault = await condition.backend_fault()  # patient for some seconds only
    try:
        async with asyncio.timeout(_LOOK_S):
            return Look(
                capacity=await condition.capacity(),
                backend_fault=fault,
                workers=await condition.workers(),
                oldest_result=await outbox.oldest_age(),
                certificate_end=await asyncio.to_thread(certificate_end, settings.api.tls),
            )
    except StoreError:
        return Look()
    except TimeoutError:
        return Look(backend_fault=fault)  # an engine that hangs holds up all that ask it
