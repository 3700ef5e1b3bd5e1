"""The HTTP application: what every client reaches, and what is around each request."""

from __future__ import annotations

from fastapi import FastAPI

from clientauth.http import auth_router
from clientauth.service import ClientAuth
from clientauth.single_fields import SingleFields
from foundation.spans import NoTracing, Tracing
from offloader.api.access import AccessLog
from offloader.api.added import added_job_router
from offloader.api.audited import Audited
from offloader.api.bodies import BodyLimit
from offloader.api.errors import install_error_handlers
from offloader.api.events import event_router
from offloader.api.health import health_router
from offloader.api.jobs import job_router
from offloader.api.proxies import TrustedProxies
from offloader.audit import Audit
from offloader.condition import Condition
from offloader.events import JobEvents
from offloader.metrics import ServiceMetrics
from offloader.service import JobService
from offloader.version import BUILD_VERSION


def create_app(
    *,
    service: JobService,
    auth: ClientAuth,
    metrics: ServiceMetrics,
    condition: Condition,
    events: JobEvents,
    tracing: Tracing | None = None,
    proxies: TrustedProxies | None = None,
    audit: Audit | None = None,
) -> FastAPI:
    """Routes, error form, body limit, access log."""
    app = FastAPI(
        title="Job service for Mattermost Calls",
        version=BUILD_VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)
    app.include_router(health_router(metrics, condition, auth))
    app.include_router(auth_router(auth))
    app.include_router(job_router(service, auth, events, tracing or NoTracing()))
    app.include_router(added_job_router(service, auth))
    app.include_router(event_router(events, auth, count_dropped=metrics.events_dropped))
    app.add_middleware(BodyLimit)
    app.add_middleware(SingleFields)
    if audit is not None:
        app.add_middleware(Audited, audit=audit)
    app.add_middleware(AccessLog, observe=metrics.request_answered, proxies=proxies)
    return app
