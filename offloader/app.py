"""Wires the parts together, the only place where that happens."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI

from clientauth.admin import ClientAdmin
from clientauth.registration_limits import RegistrationRoom
from clientauth.service import ClientAuth
from clientauth.sessions import SessionCache
from foundation.clock import Clock, SystemClock
from foundation.logs import get_logger
from foundation.tracing import open_tracing
from offloader.administration import Administration
from offloader.api.admin import admin_router
from offloader.api.application import create_app
from offloader.api.data import data_router
from offloader.api.keys import key_router
from offloader.api.launches import GivesJobsOut, launch_router
from offloader.api.local import LocalAdmin
from offloader.api.page import PageOptions, page_router
from offloader.api.proxies import TrustedProxies
from offloader.auditing import auditing
from offloader.backends.base import Backend
from offloader.backends.counted import CountedBackend
from offloader.backends.former import WithFormer
from offloader.backends.registry import create_backend
from offloader.certificate import certificate_end
from offloader.condition import Condition
from offloader.copies import JobCopies
from offloader.entrance import Entrance
from offloader.errors import StoreError
from offloader.events import JobEvents
from offloader.hosts import lease_of_this_process
from offloader.job_data import JobData
from offloader.job_traces import JobTraces
from offloader.live import LiveParts, policy_of
from offloader.lost_jobs import LostJobs
from offloader.metrics import ServiceMetrics
from offloader.notify.running import notifying
from offloader.outbox import Outbox
from offloader.registration_mark import former_marks, registration_mark
from offloader.registration_metrics import registration_families
from offloader.reload import Reloads
from offloader.removal import Removal
from offloader.republish import OutboxRepublisher
from offloader.retranscription import Retranscriber
from offloader.service import JobService
from offloader.settings import Settings, default_state_dir
from offloader.site_rules import why_refused
from offloader.store.observed import ObservedJobStore
from offloader.store.stores import open_stores
from offloader.supervisor import Supervisor
from offloader.webhooks.running import telling_receivers

_DRAIN_SLACK_S = 30.0
"""Beyond the grace, for the kill and for the supervisor to see it."""

_TRACES_CLOSE_S = 3.0
"""So long an ending service waits for the collector."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Offloader:
    """The running service; `app` is what an ASGI server serves."""

    app: FastAPI
    service: JobService
    supervisor: Supervisor
    entrance: Entrance
    events: JobEvents
    local_app: LocalAdmin
    """`app` for the local socket, through which everybody is the admin."""
    stop_grace_s: float
    live: LiveParts
    """What settings are given to while it runs."""

    async def drain(self, *, hurry: asyncio.Event) -> bool:
        """Refuse new jobs, end the running ones as the backend demands; False when some would not end."""
        self.entrance.close(for_good=True)
        try:
            async with asyncio.timeout(self.stop_grace_s + _DRAIN_SLACK_S):
                await self.supervisor.drain(hurry=hurry)
        except TimeoutError:
            return False
        finally:
            self.events.close()
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
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(
            open_stores(
                settings.data_source,
                environ=environ,
                state_dir=default_state_dir(environ),
                clock=clock,
            )
        )
        uncounted = backend or create_backend(settings.jobs, environ=environ, cipher=stores.cipher)
        routed = WithFormer(uncounted, settings=settings.jobs, environ=environ)
        backend = CountedBackend(routed)
        stack.push_async_callback(backend.aclose)
        clock = clock or SystemClock()
        lease = await lease_of_this_process(backend) if stores.shared else None
        store = ObservedJobStore(stores.jobs)
        entrance = Entrance(
            store=store,
            policy=policy_of(settings.jobs),
            free_disk=backend.free_disk_bytes,
            clock=clock,
            wait_s=settings.jobs.admission_wait_s,
            lease=lease,
            places=backend.places,
            client_limits=settings.jobs.client_limits,
        )
        stack.push_async_callback(entrance.aclose)
        copies = JobCopies.of(settings.jobs.network)
        lost = LostJobs(backend, copies)
        outbox = Outbox(
            store=store,
            backend=backend,
            tokens=stores.secrets,
            clock=clock,
            max_age=settings.jobs.outbox_max_age,
            slots=max(settings.jobs.post_call_slots, 1),
            copies=copies,
            host=lease.host if lease is not None else "",
            refusal=partial(why_refused, network=settings.jobs.network),
        )
        retranscriber = Retranscriber(
            store=store,
            backend=backend,
            secrets=stores.secrets,
            clock=clock,
            slots=settings.jobs.post_call_slots,
        )
        removal = Removal(
            store=store,
            backend=backend,
            lost=lost,
            clock=clock,
            secrets=stores.secrets,
            lease=lease,
        )
        service = JobService(
            settings=settings.jobs,
            store=store,
            backend=backend,
            entrance=entrance,
            clock=clock,
            answers=stores.answers,
            republisher=OutboxRepublisher(outbox, stores.secrets),
            retranscriber=retranscriber,
            lost=lost,
            removal=removal,
            keyed_hash=stores.cipher.fingerprint,
            former_hashes=stores.cipher.former_fingerprints,
        )
        stop_grace_s = settings.jobs.stop_grace_s
        supervisor = Supervisor(
            settings=settings.jobs,
            store=store,
            backend=backend,
            clock=clock,
            stop_grace_s=stop_grace_s,
            removal=removal,
            outbox=outbox,
            lease=lease,
            retranscriber=retranscriber,
            lost=lost,
            secrets=stores.secrets,
        )
        supervisor.on_room(entrance.room_made)
        condition = Condition(store=store, backend=backend, entrance=entrance)
        audit = await stack.enter_async_context(auditing(settings, clock=clock))
        tracing = open_tracing(
            settings.tracing.endpoint,
            service="calls-offloader",
            ca_file=str(settings.jobs.network.ca_cert_file or ""),
        )
        stack.push_async_callback(asyncio.to_thread, tracing.close, limit_s=_TRACES_CLOSE_S)
        reloads = Reloads(clock)
        metrics = ServiceMetrics(
            store=store,
            figures=lambda: supervisor.logs.figures,
            condition=condition,
            clock=clock,
            backend_failures=backend.failures,
            outbox_age=outbox.oldest_age,
            unpublished_quota=lambda: entrance.policy.unpublished_quota_bytes,
            certificate_end=lambda: certificate_end(settings.api.tls),
            spans_dropped=lambda: tracing.dropped,
            audit_dropped=lambda: audit.dropped,
            reloads=reloads,
        )
        supervisor.logs.on_joined(metrics.job_joined)
        entrance.on_waited(metrics.admission_waited)
        store.on_change(metrics.job_changed)
        if settings.tracing.endpoint:
            store.on_change(JobTraces(tracing, clock).job_changed)
        events = JobEvents(store, most_each=settings.jobs.client_limits.event_streams)
        store.on_change(events.changed)
        await stack.enter_async_context(
            notifying(
                settings,
                condition=condition,
                outbox=outbox,
                store=store,
                answers=stores.answers,
                clock=clock,
                on_lost=metrics.notification_lost,
            )
        )
        webhooks = await stack.enter_async_context(
            telling_receivers(settings.notify, stores=stores, store=store, clock=clock)
        )
        metrics.add(webhooks.families)
        registrations = RegistrationRoom(
            store=stores.clients, clock=clock, limits=settings.api.registration_limits
        )
        metrics.add(partial(registration_families, registrations))
        local_admin_key = secrets.token_urlsafe(32)
        auth = ClientAuth(
            store=stores.clients,
            sessions=SessionCache(
                expiration_minutes=settings.api.expiration_minutes,
                clock=clock,
                store=stores.sessions,
            ),
            clock=clock,
            enable_admin=settings.api.enable_admin,
            admin_secret_key=settings.api.admin_secret_key,
            allow_self_registration=settings.api.allow_self_registration,
            self_register_on_basic=True,
            local_admin_key=local_admin_key,
            mark=partial(registration_mark, stores.cipher),
            former_marks=partial(former_marks, stores.cipher),
            narrowing=settings.api.self_registration,
            registrations=registrations,
        )
        await supervisor.recover()
        proxies = TrustedProxies(settings.api.trusted_proxies)
        app = create_app(
            service=service,
            auth=auth,
            metrics=metrics,
            condition=condition,
            events=events,
            tracing=tracing,
            proxies=proxies,
            audit=audit,
        )
        app.include_router(
            admin_router(
                Administration(store=store, backend=backend, entrance=entrance, clock=clock),
                ClientAdmin(store=stores.clients, auth=auth),
                stores.clients.adopt,
                auth,
                self_registration=settings.api.allow_self_registration,
            )
        )
        app.include_router(key_router(stores.keys, auth))
        job_data = JobData(store=store, lost=lost, removal=removal)
        app.include_router(data_router(job_data, auth, audit))
        if isinstance(uncounted, GivesJobsOut):
            app.include_router(launch_router(uncounted))
        if settings.api.enable_admin and settings.api.admin_page:
            options = PageOptions(
                admin_key=local_admin_key, show_content=settings.api.admin_show_content
            )
            app.include_router(page_router(app.router, auth, options, clock=clock))
        local_app = LocalAdmin(app, key=local_admin_key)
        watching = asyncio.create_task(supervisor.run(), name="supervisor")
        telling = asyncio.create_task(events.run(), name="events")
        keys = asyncio.create_task(stores.keys.run(), name="keys")
        live = LiveParts(
            service=service,
            supervisor=supervisor,
            entrance=entrance,
            events=events,
            outbox=outbox,
            retranscriber=retranscriber,
            auth=auth,
            registrations=registrations,
            proxies=proxies,
            backend=routed,
            audit=audit,
            cipher=stores.cipher,
            key_place=stores.key_place,
            reloads=reloads,
        )
        try:
            yield Offloader(
                app, service, supervisor, entrance, events, local_app, stop_grace_s, live
            )
        finally:
            events.close()
            for task in (watching, telling, keys):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            if lease is not None:
                with contextlib.suppress(StoreError):
                    await store.release(lease.owner)
