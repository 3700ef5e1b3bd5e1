"""Routes for monitors and for the plugin's first question; none needs authentication."""

from __future__ import annotations

from fastapi import APIRouter, Response

from offloader.metrics import ServiceMetrics
from offloader.version import version_document


def health_router(metrics: ServiceMetrics) -> APIRouter:
    """`/version`, `/healthz`, `/metrics`."""
    router = APIRouter()

    @router.get("/version")
    async def version() -> dict[str, str]:
        return version_document()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers; whether it takes jobs is another question."""
        return {"status": "ok"}

    @router.get("/metrics")
    async def prometheus() -> Response:
        return Response(await metrics.render(), media_type=metrics.content_type)

    return router
