"""Wires the parts together, the only place where that happens, and makes the HTTP application of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI

from clientauth.http import auth_router
from clientauth.service import ClientAuth
from clientauth.sessions import SessionCache
from foundation.clock import Clock, SystemClock
from foundation.logs import get_logger
from offloader.admission import AdmissionPolicy
from offloader.api.bodies import BodyLimit
from offloader.api.errors import install_error_handlers
from offloader.api.health import health_router
from offloader.api.jobs import job_router
from offloader.backends.base import Backend
from offloader.backends.registry import create_backend
from offloader.entrance import Entrance
from offloader.metrics import ServiceMetrics
from offloader.outbox import NoTokens, Outbox
from offloader.service import JobService
from offloader.settings import Settings
from offloader.store.database import open_database
from offloader.store.sql import SqlClientStore, SqlJobStore
from offloader.supervisor import Supervisor
from offloader.version import BUILD_VERSION

_DRAIN_SLACK_S = 30.0
"""Beyond the grace, for the kill and for the supervisor to see it."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Offloader:
    """The running service; `app` is what an ASGI server serves."""

    app: FastAPI
    service: JobService
    supervisor: Supervisor
    entrance: Entrance
    stop_grace_s: float

    async def drain(self, *, hurry: asyncio.Event) -> bool:
        """Refuse new jobs, end the running ones as the backend demands; False when some would not end."""
        self.entrance.close()
        try:
            async with asyncio.timeout(self.stop_grace_s + _DRAIN_SLACK_S):
                await self.supervisor.drain(hurry=hurry)
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def running_offloader(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    clock: Clock | None = None,
    backend: Backend | None = None,
) -> AsyncIterator[Offloader]:
    """Open the store, adopt what runs, watch it while the block runs. Jobs run on after the block.

    Tests pass their own `clock` and `backend`.

    Raises:
        ConfigError: the backend is not to be had.
        StoreError: the database cannot be opened.
    """
    clock = clock or SystemClock()
    backend = backend or create_backend(settings.jobs, environ=environ)
    database = await open_database(settings.data_source)
    try:
        store = SqlJobStore(database)
        policy = AdmissionPolicy(
            max_calls=settings.jobs.max_concurrent_jobs,
            post_call_slots=settings.jobs.post_call_slots,
            min_free_disk_bytes=settings.jobs.min_free_disk_bytes,
        )
        entrance = Entrance(
            store=store,
            policy=policy,
            free_disk=backend.free_disk_bytes,
            clock=clock,
            wait_s=settings.jobs.admission_wait_s,
        )
        outbox = Outbox(
            store=store,
            backend=backend,
            tokens=NoTokens(),
            clock=clock,
            max_age=settings.jobs.outbox_max_age,
            slots=max(settings.jobs.post_call_slots, 1),
        )
        service = JobService(
            settings=settings.jobs, store=store, backend=backend, entrance=entrance, clock=clock
        )
        stop_grace_s = settings.jobs.process.stop_grace_s
        supervisor = Supervisor(
            settings=settings.jobs,
            store=store,
            backend=backend,
            clock=clock,
            stop_grace_s=stop_grace_s,
            forget=service.forget,
            outbox=outbox,
        )
        supervisor.on_room(entrance.room_made)
        metrics = ServiceMetrics(
            store=store,
            figures=lambda: supervisor.figures,
            policy=policy,
        )
        supervisor.on_finished(metrics.job_finished)
        auth = ClientAuth(
            store=SqlClientStore(database),
            sessions=SessionCache(expiration_minutes=settings.api.expiration_minutes, clock=clock),
            clock=clock,
            enable_admin=settings.api.enable_admin,
            admin_secret_key=settings.api.admin_secret_key,
            allow_self_registration=settings.api.allow_self_registration,
            self_register_on_basic=True,
        )
        await supervisor.recover()
        app = create_app(service=service, auth=auth, metrics=metrics)
        watching = asyncio.create_task(supervisor.run(), name="supervisor")
        try:
            yield Offloader(app, service, supervisor, entrance, stop_grace_s)
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
    finally:
        await backend.aclose()
        await database.aclose()


def create_app(*, service: JobService, auth: ClientAuth, metrics: ServiceMetrics) -> FastAPI:
    """Routes, error form and body limit."""
    app = FastAPI(
        title="Job service for Mattermost Calls",
        version=BUILD_VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)
    app.include_router(health_router(metrics))
    app.include_router(auth_router(auth))
    app.include_router(job_router(service, auth))
    app.add_middleware(BodyLimit)
    return app
