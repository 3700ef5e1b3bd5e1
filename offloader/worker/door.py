"""A worker's door: the HTTP application through which the service reaches the jobs of this host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, Response

from clientauth.single_fields import SingleFields
from offloader.api.bodies import BodyLimit
from offloader.backends.remote.door import KeyGuard, install_door_errors
from offloader.backends.remote.wire import WorkerCard
from offloader.store.secret_key import Cipher
from offloader.version import BUILD_VERSION


def door_app(
    *,
    cipher: Cipher,
    card: Callable[[], WorkerCard],
    routers: Sequence[APIRouter],
    open_prefixes: tuple[str, ...] = (),
) -> FastAPI:
    """`cipher`: without whose door key nothing but `/healthz` is answered, and what is below
    `open_prefixes`, whose routes look at tokens themselves."""
    app = FastAPI(
        title="Worker of the job service for Mattermost Calls",
        version=BUILD_VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    install_door_errors(app)

    @app.get("/healthz")
    async def healthz() -> Response:
        """Alive. Neither a broker that is away nor a full house is a reason to restart a worker."""
        return JSONResponse({"status": "ok"})

    @app.get("/worker")
    async def worker() -> Response:
        return JSONResponse(card().document())

    for router in routers:
        app.include_router(router)
    app.add_middleware(BodyLimit)
    app.add_middleware(KeyGuard, cipher=cipher, open_prefixes=open_prefixes)
    app.add_middleware(SingleFields)
    return app
