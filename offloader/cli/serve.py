"""`offloader serve`: from settings to a server that ends politely."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import socket

import uvicorn

from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from foundation.shutdown import Shutdown, shutdown_on_signals
from offloader.app import Offloader, running_offloader
from offloader.listen import bind
from offloader.logging_setup import set_up_logging
from offloader.settings import Settings, TlsSettings, load_settings
from offloader.version import BUILD_VERSION

_KEEP_ALIVE_S = 75
"""Longer than the pause between a recording's and its transcription's request, so that TLS is paid once."""
_OPEN_REQUESTS_S = 5
"""How long requests that are being answered may still take when everything else has ended."""

log = get_logger()


def serve(config_path: Path) -> int:
    """Run until SIGTERM or SIGINT; 0 when it ended as asked.

    The first signal refuses new jobs and ends the running ones as the backend demands; the second
    leaves them ten seconds.

    Raises:
        ConfigError, StoreError: the service cannot start.
    """
    settings = load_settings(config_path, os.environ)
    sockets = bind(settings.api.listen_address)
    set_up_logging(settings.logger)
    for warning in settings.warnings:
        log.warning("config.warning", text=warning)
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(_serve(settings, sockets, os.environ))


async def _serve(settings: Settings, sockets: list[socket], environ: Mapping[str, str]) -> int:
    with shutdown_on_signals() as shutdown:
        async with running_offloader(settings, environ=environ) as offloader:
            server = _Server(_server_config(offloader, settings.api.tls))
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(server.serve(sockets=sockets), name="http")
                log.info(
                    f"offloader: listening on {settings.api.listen_address}",  # noqa: G004 - for people
                    version=BUILD_VERSION,
                    tls=settings.api.tls.enable,
                    backend=settings.jobs.api_type,
                )
                return await _until_told(offloader, server, serving, shutdown)


async def _until_told(
    offloader: Offloader, server: _Server, serving: asyncio.Task[None], shutdown: Shutdown
) -> int:
    requested = asyncio.ensure_future(shutdown.requested.wait())
    await asyncio.wait((requested, serving), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        requested.cancel()
        log.error("http.ended", reason="the HTTP server ended by itself")
        return 1
    log.info("offloader: shutting down")
    clean = await offloader.drain(hurry=shutdown.hurry)
    if not clean:
        log.error("shutdown.jobs_left", reason="some jobs did not end")
    server.should_exit = True
    await serving
    log.info("offloader: ended")
    return 0 if clean else 1


class _Server(uvicorn.Server):
    """Signals belong to the service, which has jobs to end first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server_config(offloader: Offloader, tls: TlsSettings) -> uvicorn.Config:
    try:
        config = uvicorn.Config(
            offloader.app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_OPEN_REQUESTS_S,
            ssl_certfile=tls.cert_file if tls.enable else None,
            ssl_keyfile=tls.cert_key if tls.enable else None,
        )
        config.load()
    except OSError as error:
        raise ConfigError(
            f"api.http.tls: certificate {tls.cert_file} or key {tls.cert_key} cannot be used: "
            f"{error.strerror or error}"
        ) from error
    return config


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()
