"""Routes for monitors and for the plugin's first question; only the capacity needs authentication."""

# No postponed annotations here: FastAPI has to see the types that are made inside the function.
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from clientauth.service import ClientAuth, Identity
from offloader.api.openapi import openapi_document
from offloader.condition import Condition
from offloader.metrics import ServiceMetrics
from offloader.version import version_document


def health_router(metrics: ServiceMetrics, condition: Condition, auth: ClientAuth) -> APIRouter:
    """`/version`, `/healthz`, `/readyz`, `/metrics`, `/capacity`, `/openapi.json`."""
    router = APIRouter()

    async def known_client(request: Request) -> Identity:
        authorization = request.headers.get("authorization")
        return await auth.authenticate(authorization, may_register=False)

    @router.get("/version")
    async def version() -> dict[str, str]:
        return version_document()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers; whether it takes jobs is another question."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> Response:
        obstacles = await condition.obstacles()
        if not obstacles:
            return JSONResponse({"status": "ready"})
        reason = "; ".join(obstacles)
        document = {"error": f"not ready: {reason}", "code": "503", "reasons": obstacles}
        return JSONResponse(document, status_code=503)

    @router.get("/metrics")
    async def prometheus() -> Response:
        return Response(await metrics.render(), media_type=metrics.content_type)

    @router.get("/capacity")
    async def capacity(client: Annotated[Identity, Depends(known_client)]) -> Response:
        return JSONResponse((await condition.capacity(client)).document())

    @router.get("/openapi.json")
    async def openapi() -> Response:
        return JSONResponse(openapi_document())

    return router
