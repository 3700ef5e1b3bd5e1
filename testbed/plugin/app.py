"""Wires the stand-in: the one place where its parts meet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse

from foundation.logs import get_logger
from testbed.plugin.calls import Calls
from testbed.plugin.faults import Faults
from testbed.plugin.hub import Hub
from testbed.plugin.job_service import JobServiceClient, JobServiceError, PluginSettings
from testbed.plugin.jobs import JobLifecycle
from testbed.plugin.posts import Archive
from testbed.plugin.routes import PluginRoutes
from testbed.plugin.rtcd import RtcdClient, RtcdError
from testbed.plugin.testbed_routes import testbed_routes
from testbed.plugin.uploads import Uploads
from testbed.plugin.websocket import MattermostSocket
from testbed.plugin.world import World

DEFAULT_MAX_FILE_SIZE_BYTES = 104_857_600


def create_app(
    *,
    rtcd_url: str,
    job_service_url: str,
    data_dir: Path,
    settings: PluginSettings,
    max_file_size_bytes: int = DEFAULT_MAX_FILE_SIZE_BYTES,
) -> FastAPI:
    """The application; its lifespan owns the connections to SFU and job service.

    `data_dir/world.json` is written before the first request is answered.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    world = World.create()
    world.save(data_dir / "world.json")
    hub = Hub(world.bot)
    archive = Archive(data_dir / "files")
    uploads = Uploads(data_dir / "uploads", archive, max_file_size_bytes=max_file_size_bytes)
    calls: Calls
    rtcd = RtcdClient(
        rtcd_url,
        on_message=lambda message: calls.from_sfu(message),
        live_sessions=lambda: calls.session_ids,
    )
    calls = Calls(world=world, hub=hub, archive=archive, rtcd=rtcd, faults=Faults())
    service = JobServiceClient(job_service_url, settings)
    jobs = JobLifecycle(calls, service, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await rtcd.register()
        except RtcdError as error:
            get_logger(component="rtcd-client").error("rtcd.not_registered", reason=str(error))
            raise
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(rtcd.run(), name="rtcd"),
                tasks.create_task(_initialize(service), name="job-service-init"),
            ]
            yield
            for task in background:
                task.cancel()
            await jobs.close()
            await calls.close()

    app = FastAPI(title="Stand-in for Mattermost Calls", lifespan=lifespan, openapi_url=None)
    app.include_router(PluginRoutes(calls, jobs, uploads).router)
    app.include_router(testbed_routes(calls, uploads, hub))

    @app.exception_handler(404)
    async def unknown_path(_: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("404 page not found\n", status_code=404)

    @app.websocket("/api/v4/websocket")
    async def websocket(socket: WebSocket) -> None:
        await MattermostSocket(socket, calls).serve()

    return app


async def _initialize(service: JobServiceClient) -> None:
    try:
        await service.initialize_when_up()
    except JobServiceError as error:
        get_logger(component="job-service").error("job_service.not_initialized", reason=str(error))
