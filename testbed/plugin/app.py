"""Wires the stand-in: the one place where its parts meet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse

from foundation.logs import get_logger
from testbed.plugin.actions import Actions
from testbed.plugin.calls import Calls
from testbed.plugin.client_config import ClientConfig
from testbed.plugin.faults import Faults
from testbed.plugin.hub import Hub
from testbed.plugin.job_service import JobServiceClient, JobServiceError, PluginSettings
from testbed.plugin.jobs import JobLifecycle
from testbed.plugin.metrics import PluginMetrics, metrics_route
from testbed.plugin.origins import AllowedOrigins
from testbed.plugin.posts import Archive
from testbed.plugin.resolution import Resolve, resolve_ipv4
from testbed.plugin.routes import PluginRoutes
from testbed.plugin.rtcd import Credentials, RtcdError, RtcdUrl
from testbed.plugin.rtcd_hosts import RESOLVE_INTERVAL_S, RtcdHosts
from testbed.plugin.testbed_routes import testbed_routes
from testbed.plugin.uploads import Uploads
from testbed.plugin.web_page import web_page
from testbed.plugin.websocket import MattermostSocket
from testbed.plugin.world import World

DEFAULT_MAX_FILE_SIZE_BYTES = 104_857_600


def create_app(
    *,
    rtcd_url: str,
    rtcd_credentials: Credentials,
    job_service_url: str,
    data_dir: Path,
    settings: PluginSettings,
    max_file_size_bytes: int = DEFAULT_MAX_FILE_SIZE_BYTES,
    allow_cors_from: str = "",
    resolve: Resolve = resolve_ipv4,
    resolve_interval_s: float = RESOLVE_INTERVAL_S,
    initialized: asyncio.Event | None = None,
    real_models: bool = False,
) -> FastAPI:
    """The application; its lifespan owns the connections to SFUs and job service.

    `data_dir/world.json` is written before the first request is answered. `initialized` is set when the
    job service can be used: recordings are refused before. `real_models` is what the page tells.
    Raises RtcdError for a URL of SFUs that cannot be meant.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    world = World.create(data_dir / "people.json")
    world.save(data_dir / "world.json")
    hub = Hub(world.bot)
    archive = Archive(data_dir / "files")
    uploads = Uploads(data_dir / "uploads", archive, max_file_size_bytes=max_file_size_bytes)
    calls: Calls
    sfus = RtcdHosts(
        RtcdUrl.parse(rtcd_url),
        rtcd_credentials,
        on_message=lambda message: calls.from_sfu(message),
        resolve=resolve,
        resolve_interval_s=resolve_interval_s,
    )
    calls = Calls(world=world, hub=hub, archive=archive, sfus=sfus, faults=Faults())
    metrics = PluginMetrics()
    actions = Actions(calls, metrics)
    config = ClientConfig()
    origins = AllowedOrigins(allow_cors_from, settings.site_url)
    service = JobServiceClient(job_service_url, settings)
    jobs = JobLifecycle(calls, service, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await sfus.activate()
        except RtcdError as error:
            get_logger(component="rtcd-hosts").error("rtcd.not_usable", reason=str(error))
            raise
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(sfus.run(), name="rtcd"),
                tasks.create_task(_initialize(service, initialized), name="job-service-init"),
            ]
            yield
            for task in background:
                task.cancel()
            await jobs.close()
            await calls.close()

    app = FastAPI(title="Stand-in for Mattermost Calls", lifespan=lifespan, openapi_url=None)
    routes = PluginRoutes(calls, jobs, uploads, config=config, sfu_version=sfus.version)
    app.include_router(routes.router)
    app.include_router(
        testbed_routes(calls, uploads, hub, actions=actions, config=config, sfus=sfus)
    )
    app.include_router(metrics_route(metrics, calls))
    app.include_router(web_page(world, real_models=real_models))

    @app.exception_handler(404)
    async def unknown_path(_: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("404 page not found\n", status_code=404)

    @app.websocket("/api/v4/websocket")
    async def websocket(socket: WebSocket) -> None:
        await MattermostSocket(socket, calls, actions, origins).serve()

    return app


async def _initialize(service: JobServiceClient, initialized: asyncio.Event | None) -> None:
    try:
        await service.initialize_when_up()
    except JobServiceError as error:
        get_logger(component="job-service").error("job_service.not_initialized", reason=str(error))
    else:
        if initialized is not None:
            initialized.set()
