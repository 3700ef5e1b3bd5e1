"""A celery backend whose broker and workers are in this process: nothing blocks, and time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from foundation.clock import ManualClock
from offloader.backends.base import LaunchRequest, Observation, Rescued
from offloader.backends.celery.backend import CeleryBackend
from offloader.backends.celery.messages import LaunchOrder
from offloader.backends.celery.options import CeleryOptions
from offloader.backends.remote.client import ANSWER_S, STARTS_S, DoorUnreachable
from offloader.backends.remote.wire import WorkerCard
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError
from offloader.models import JobType, Workload
from offloader.settings import load_settings
from offloader.store.secret_key import Cipher

CIPHER = Cipher("k" * 32)


def card(name: str, **changes: Any) -> WorkerCard:
    found = WorkerCard(
        name=name,
        url=f"http://{name}:4546",
        version="1",
        labels=(),
        slots=2,
        recording=0,
        transcribing=0,
        transcribe_slots=1,
        draining=False,
        free_disk_bytes=100,
        usable="",
    )
    return replace(found, **changes)


class LocalBackend(StubBackend):
    """A worker's own; while it is `busy` it cannot say which jobs it has."""

    busy = False

    async def adopt(self) -> Mapping[str, Workload]:
        if self.busy:
            raise BackendError("the worker is just launching a job")
        return await super().adopt()


@dataclass
class Worker:
    """A host: its card, and its local backend behind a door."""

    card: WorkerCard
    backend: LocalBackend = field(default_factory=lambda: LocalBackend(name="process"))
    dead: bool = False
    """Neither its door nor the broker hears from it."""
    door_shut: bool = False
    hangs: bool = False
    """Its door is open, and nobody answers: every request takes as long as it may."""
    looks: list[int] = field(default_factory=list)
    """How many workloads each request of the service asked for."""


class FakeDoor:
    """What `RemoteBackend` is to the celery backend."""

    def __init__(self, worker: Worker | None, url: str) -> None:
        self._worker = worker
        self._url = url
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._hang(STARTS_S)
            return await getattr(self._reached(), name)(*args, **kwargs)

        streams = ("logs", "follow", "read_artifact")
        if name in streams:
            return getattr(self._reached(), name)
        return call

    async def poll_many(self, workloads: Sequence[Workload]) -> list[Observation | BackendError]:
        await self._hang(ANSWER_S)
        backend = self._reached()
        assert self._worker is not None
        self._worker.looks.append(len(workloads))
        return [await backend.poll(workload) for workload in workloads]

    async def rescue(self, workload: Workload | None, *, job_id: str, **what: Any) -> Rescued:
        known = workload or Workload("process", {"id": job_id})
        return await self._reached().rescue(known, **what)

    async def aclose(self) -> None:
        self.closed = True

    async def _hang(self, limit_s: float) -> None:
        hangs = self._worker is not None and self._worker.hangs
        await asyncio.sleep(limit_s if hangs else 0.001)

    def _reached(self) -> StubBackend:
        if self._worker is None or self._worker.dead or self._worker.door_shut:
            raise DoorUnreachable(f"the worker at {self._url} cannot be reached: refused")
        return self._worker.backend


class FakeBroker:
    """Delivers every message to whoever `deliver` is; `down`: nobody can reach it."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers
        self.down = False
        self.answers_after_s = 1.0
        self.published: list[tuple[str, str, str]] = []
        """Job, queue, and what was sealed."""
        self.deliver: Callable[[str, LaunchOrder], Awaitable[None]] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()

    async def publish(self, job_id: str, sealed: str, *, queue: str) -> None:
        await self._reached()
        self.published.append((job_id, queue, sealed))
        order = LaunchOrder.unsealed(CIPHER, sealed, job_id)
        assert order is not None
        if self.deliver is not None:
            delivery = asyncio.ensure_future(self.deliver(job_id, order))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)

    async def cards(self) -> Sequence[WorkerCard]:
        await self._reached()
        await asyncio.sleep(self.answers_after_s)
        return [worker.card for worker in self.workers if not worker.dead]

    async def aclose(self) -> None:
        await asyncio.gather(*self._deliveries)

    async def _reached(self) -> None:
        await asyncio.sleep(0.001)
        if self.down:
            await asyncio.sleep(2)
            raise BackendError("the broker redis://b cannot be used: refused")


class Site:
    """One replica of the service, a broker, and hosts."""

    def __init__(self, *names: str, **environ: str) -> None:
        self.workers = {name: Worker(card(name)) for name in names}
        self.hosts = list(self.workers.values())
        self.broker = FakeBroker(self.hosts)
        self.clock = ManualClock()
        self.environ = {
            "JOBS_APITYPE": "celery",
            "JOBS_CELERY_OWNURL": "http://replica:4545",
            **environ,
        }
        self.backend = self.replica()
        self.broker.deliver = self.to_the_first
        self.made: list[FakeDoor] = []

    def replica(self) -> CeleryBackend:
        """Another process of the service."""
        jobs = load_settings(Path("/nonexistent"), self.environ).jobs
        broker: Any = self.broker
        connect: Any = self.door
        return CeleryBackend(
            CeleryOptions.of(jobs), cipher=CIPHER, broker=broker, connect=connect, clock=self.clock
        )

    def door(self, url: str) -> FakeDoor:
        found = [worker for worker in self.hosts if worker.card.url == url]
        self.made.append(FakeDoor(found[0] if found else None, url))
        return self.made[-1]

    async def to_the_first(self, job_id: str, order: LaunchOrder) -> None:
        """The first host takes every job."""
        worker = self.hosts[0]
        self.claim(job_id, worker)
        local = await worker.backend.launch(order.request(job_id))
        self.backend.board.settle(job_id, local)

    def claim(self, job_id: str, worker: Worker) -> Any:
        return self.backend.board.claim(job_id, worker=worker.card.name, url=worker.card.url)

    @staticmethod
    def request(job_id: str = "a" * 12, job_type: JobType = JobType.RECORDING) -> LaunchRequest:
        return LaunchRequest(job_id, job_type, "runner", {"auth_token": "hush"}, 3600)


@pytest.fixture
async def site() -> AsyncIterator[Callable[..., Site]]:
    """Makes a site of the named hosts; keyword arguments are variables of the service."""
    made: list[Site] = []

    def make(*names: str, **environ: str) -> Site:
        made.append(Site(*names, **environ))
        return made[-1]

    yield make
    for each in made:
        await each.backend.aclose()


@pytest.fixture
def make_card() -> Callable[..., WorkerCard]:
    return card
