"""A store with its queue of events, and receivers that do what the test says."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from foundation.clock import ManualClock
from offloader.models import Job, JobSpec, JobState, JobType
from offloader.store.observed import ObservedJobStore
from offloader.store.sql_webhooks import SqlWebhookQueue
from offloader.store.stores import Stores, open_stores
from offloader.webhooks.running import record_events
from offloader.webhooks.sender import NotDelivered


class Site:
    """What a replica has of the database."""

    def __init__(self, stores: Stores, clock: ManualClock, names: list[str]) -> None:
        self.clock = clock
        self.queue = SqlWebhookQueue(stores.database)
        stores.jobs.on_write(partial(record_events, self.queue, names))
        self.store = ObservedJobStore(stores.jobs)

    async def add(self, job_id: str, *, states: int = 0) -> None:
        """A new job, and so many further states."""
        spec = JobSpec(JobType.RECORDING, "runner", 60, {"auth_token": "hush", "call_id": "c"})
        job = Job(job_id, "client", spec, self.clock.utc_now())
        await self.store.reserve(job, admits=lambda *_: True)
        for state in (JobState.STARTING, JobState.RUNNING, JobState.STOPPING)[:states]:
            await self.store.change(job_id, lambda job, to=state: job.moved_to(to))


class Receiver:
    """A `Sender`, and what is behind it."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        """Job and state of each attempt that it confirmed."""
        self.ids: list[str] = []
        self.attempts = 0
        self.refuses: Callable[[dict[str, Any]], bool] = lambda event: False

    async def send(self, event_id: str, body: str) -> None:
        event = json.loads(body)
        assert event["event_id"] == event_id
        self.attempts += 1
        if self.refuses(event):
            raise NotDelivered("HTTP 503")
        self.got.append((event["job_id"], event["state"]))
        self.ids.append(event_id)

    async def aclose(self) -> None:
        return


@pytest.fixture
async def site(tmp_path: Path, empty_store: Path) -> AsyncIterator[Site]:
    shutil.copy(empty_store, tmp_path / "store.db")
    clock = ManualClock()
    source = str(tmp_path / "store.db")
    async with open_stores(source, environ={}, state_dir=tmp_path, clock=clock) as stores:
        yield Site(stores, clock, ["one", "two"])


@pytest.fixture
def receivers() -> dict[str, Receiver]:
    return {"one": Receiver(), "two": Receiver()}
