"""Wires a worker's parts together, the only place where that happens."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from offloader.backends.base import Backend
from offloader.backends.celery.app import celery_app
from offloader.backends.celery.broker import Broker
from offloader.backends.celery.messages import (
    CARD_COMMAND,
    LAUNCH_TASK,
    card_context,
    launch_queue,
)
from offloader.backends.registry import create_backend
from offloader.backends.remote.client import trusted
from offloader.backends.remote.door import backend_router
from offloader.backends.remote.wire import seal
from offloader.backends.retuned import Retuned
from offloader.models import JobType
from offloader.settings import JobsSettings, Settings, default_state_dir
from offloader.store.key_place import KeyPlace, shared_cipher
from offloader.store.secret_key import Cipher
from offloader.store.sqlite_file import key_file_of
from offloader.worker.books import Books
from offloader.worker.celery_thread import CeleryThread
from offloader.worker.claims import Claims
from offloader.worker.door import door_app
from offloader.worker.house import House
from offloader.worker.lanes import Lane
from offloader.worker.launching import Launching
from offloader.worker.transcribing import TranscribeStage

_LEAST_THREADS = 2
_MOST_THREADS = 16


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A worker that takes jobs; `app` is its door."""

    app: FastAPI
    house: House
    tracks: TranscribeStage
    closing: asyncio.Event
    """Set it before the HTTP server ends: logs that are being followed end then."""
    stop_grace_s: float
    backend: Backend
    cipher: Cipher
    key_place: KeyPlace
    tls: ssl.SSLContext
    """Whom other doors are trusted by."""

    def retune(self, jobs: JobsSettings) -> None:
        """From now on, jobs are launched by these."""
        if isinstance(self.backend, Retuned):
            self.backend.retune(jobs)

    def trust(self, ca: bytes) -> None:
        """The content of jobs.ca_cert_file, from now on."""
        self.tls.load_verify_locations(cadata=ca.decode("ascii", "ignore"))
        if isinstance(self.backend, Retuned):
            self.backend.trust(ca)

    async def drain(self, *, hurry: asyncio.Event) -> None:
        """See `House.drain`; tracks of others are finished, too."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.tracks.drain(hurry=hurry), name="drain-tracks")
            await self.house.drain(hurry=hurry, stop_grace_s=self.stop_grace_s)


@asynccontextmanager
async def running_worker(
    settings: Settings, *, environ: Mapping[str, str], url: str, backend: Backend | None = None
) -> AsyncIterator[RunningWorker]:
    """Adopt what runs, then take jobs while the block runs. Jobs run on after the block.

    `url`: under which the service reaches the door. Tests pass their own `backend`.

    Raises:
        ConfigError: the backend is not to be had.
        StoreError: there is no secret key.
        BackendError: jobs cannot be looked for, or jobs.ca_cert_file cannot be used.
    """
    key_place = await asyncio.to_thread(_key_place, settings, environ)
    cipher = await asyncio.to_thread(shared_cipher, environ, key_file=key_place.file)
    tls = await asyncio.to_thread(trusted, settings.jobs.network.ca_cert_file)
    own = replace(settings.jobs, api_type=settings.worker.api_type)
    backend = backend or create_backend(own, environ=environ)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(backend.aclose)
        claims = Claims(name=settings.worker.name, url=url, cipher=cipher, tls=tls)
        stack.push_async_callback(claims.aclose)
        books = Books(_books_file(settings, environ), slots=settings.worker.slots)
        house = House(
            settings.worker,
            url=url,
            backend=backend,
            books=books,
            min_free_disk_bytes=settings.jobs.min_free_disk_bytes,
        )
        await house.begin()

        network = settings.jobs.network
        broker = Broker(settings.jobs.celery, cipher=cipher, ca_cert_file=network.ca_cert_file)
        stack.push_async_callback(broker.aclose)
        tracks = TranscribeStage(
            settings,
            environ=environ,
            url=url,
            backend=backend,
            publisher=broker,
            cipher=cipher,
            tls=tls,
        )
        stack.push_async_callback(tracks.aclose)
        await tracks.begin()

        async def closed(job_type: JobType) -> None:
            await celery.closed(job_type.value)

        launching = Launching(
            backend=backend,
            books=books,
            claims=claims,
            cipher=cipher,
            room=house.room,
            closed=closed,
            changed=house.changed,
            prepare=tracks.prepare,
        )
        celery = CeleryThread(
            celery_app(settings.jobs.celery, ca_cert_file=network.ca_cert_file),
            node_name=f"worker@{settings.worker.name}",
            lanes=[
                *(_lane(settings, job_type, launching) for job_type in JobType),
                *tracks.lanes,
            ],
            commands={CARD_COMMAND: lambda asked: _sealed_card(house, cipher, asked)},
        )
        closing = asyncio.Event()
        app = door_app(
            cipher=cipher,
            card=lambda: house.card,
            routers=[
                backend_router(
                    backend,
                    cipher=cipher,
                    closing=closing,
                    lowered=house.lowered,
                    told=house.told,
                    launching=house.launching,
                ),
                tracks.router,
            ],
            open_prefixes=("/tasks/",),
        )
        house.attach(celery)
        tracks.attach(celery)
        celery.start()
        stack.push_async_callback(celery.stop)
        watching = [
            asyncio.create_task(house.run(), name="house"),
            asyncio.create_task(tracks.run(), name="tracks"),
        ]
        try:
            yield RunningWorker(
                app=app,
                house=house,
                tracks=tracks,
                closing=closing,
                stop_grace_s=settings.jobs.stop_grace_s,
                backend=backend,
                cipher=cipher,
                key_place=key_place,
                tls=tls,
            )
        finally:
            for task in watching:
                task.cancel()
            await asyncio.wait(watching)


def _lane(settings: Settings, job_type: JobType, launching: Launching) -> Lane:
    prefix, worker = settings.jobs.celery.queue_prefix, settings.worker
    labels = worker.labels if worker.only_labelled else ("", *worker.labels)
    return Lane(
        name=job_type.value,
        task=LAUNCH_TASK,
        queues=tuple(launch_queue(prefix, job_type, label) for label in labels),
        take=launching.take,
        at_once=min(max(worker.slots, _LEAST_THREADS), _MOST_THREADS),
    )


def _sealed_card(house: House, cipher: Cipher, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Sealed: the service sends its key to the address in it."""
    context = card_context(asked.get("nonce", ""))
    return {"sealed": seal(cipher, house.card.document(), context=context)}


def _key_place(settings: Settings, environ: Mapping[str, str]) -> KeyPlace:
    """The service's keys: from the environment, from a copy of its file, or on the service's own host."""
    copied = default_state_dir(environ) / "offloader.key"
    if "://" not in settings.data_source and not copied.exists():
        beside = key_file_of(Path(settings.data_source))
        if beside.exists():
            return KeyPlace(environ, beside)
    return KeyPlace(environ, copied)


def _books_file(settings: Settings, environ: Mapping[str, str]) -> Path:
    state_dir = default_state_dir(environ)
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return state_dir / f"worker-{settings.worker.name}.json"
