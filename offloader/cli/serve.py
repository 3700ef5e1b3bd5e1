"""`offloader serve`: from settings to a server that ends politely."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from socket import socket

from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from foundation.shutdown import Shutdown, shutdown_on_signals
from offloader.app import Offloader, running_offloader
from offloader.http_server import HttpServer
from offloader.listen import bind, bind_local
from offloader.live import LiveParts
from offloader.live_settings import LIVE
from offloader.logging_setup import change_levels, set_up_logging
from offloader.own_files import keep_to_itself
from offloader.reload import Part, Reloader
from offloader.reload_parts import (
    CaBundlePart,
    CertificatePart,
    ConfigurationPart,
    SecretKeyPart,
)
from offloader.settings import ApiSettings, Reading, Settings, read_settings
from offloader.version import BUILD_VERSION

log = get_logger()


def serve(config_path: Path) -> int:
    """Run until SIGTERM or SIGINT; 0 when it ended as asked.

    The first signal refuses new jobs and ends the running ones as the backend demands; the second
    leaves them ten seconds.

    Raises:
        ConfigError, StoreError: the service cannot start.
    """
    keep_to_itself()
    outlive_hangups()
    reading = read_settings(config_path, os.environ)
    if reading.problems:
        raise ConfigError(str(reading.problems[0]))
    settings = reading.settings
    with ExitStack() as held:
        sockets = [held.enter_context(bound) for bound in bind(settings.api.listen_address)]
        set_up_logging(settings.logger)
        for warning in settings.warnings:
            log.warning("config.warning", text=warning)
        local = _local_socket(settings.api)
        if local is not None and settings.api.admin_socket is not None:
            held.enter_context(local)
            held.callback(settings.api.admin_socket.unlink, missing_ok=True)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(_serve(config_path, reading, sockets, local, os.environ))


def _local_socket(api: ApiSettings) -> socket | None:
    """The admin's socket; where nobody asked for it, being without is only a warning."""
    if api.admin_socket is None:
        return None
    try:
        return bind_local(api.admin_socket)
    except ConfigError as error:
        if api.admin_socket_wanted:
            raise
        log.warning("admin_socket.unusable", reason=str(error))
        return None


async def _serve(
    config_path: Path,
    reading: Reading,
    sockets: list[socket],
    local: socket | None,
    environ: Mapping[str, str],
) -> int:
    settings = reading.settings
    with shutdown_on_signals() as shutdown:
        async with running_offloader(settings, environ=environ) as offloader:
            http = HttpServer(offloader.app, tls=settings.api.tls, new_loop=new_loop)
            servers = [(http, sockets)]
            if local is not None:
                servers.append((HttpServer(offloader.local_app), [local]))
            reloader = _reloader(config_path, environ, reading, offloader.live, http)
            async with asyncio.TaskGroup() as tasks, reloading(reloader):
                serving = [
                    tasks.create_task(server.serve(sockets=bound), name="http")
                    for server, bound in servers
                ]
                log.info(
                    f"offloader: listening on {settings.api.listen_address}",  # noqa: G004 - for people
                    version=BUILD_VERSION,
                    tls=settings.api.tls.enable,
                    backend=settings.jobs.api_type,
                )
                code = await _until_told(offloader, serving, shutdown)
                for server, _ in servers:
                    server.should_exit = True
        log.info("offloader: ended")
        return code


def _reloader(
    config_path: Path,
    environ: Mapping[str, str],
    reading: Reading,
    live: LiveParts,
    http: HttpServer,
) -> Reloader:
    def apply(settings: Settings) -> None:
        live.apply(settings)
        change_levels(settings.logger)

    configuration = ConfigurationPart(config_path, environ, reading, live=LIVE, apply=apply)
    parts: list[Part] = [
        configuration,
        CaBundlePart(lambda: configuration.settings.jobs.network.ca_cert_file, live.trust),
        SecretKeyPart(live.key_place, live.cipher),
    ]
    if reading.settings.api.tls.enable:
        tls = reading.settings.api.tls
        parts.append(CertificatePart(tls, http.show, setting="api.http.tls"))
    return Reloader(
        parts,
        reloads=live.reloads,
        on_changed=lambda part, changed: live.note(part, changed, configuration.settings),
    )


def outlive_hangups() -> None:
    """SIGHUP ends no process that cannot read anew yet, or any more. What it starts does not inherit this."""
    signal.signal(signal.SIGHUP, lambda *_: None)


@asynccontextmanager
async def reloading(reloader: Reloader) -> AsyncIterator[None]:
    """What changes on disk is taken over while the block runs; SIGHUP has it read at once."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloader.ask)
    task = asyncio.create_task(reloader.run(), name="reload")
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        outlive_hangups()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _until_told(
    offloader: Offloader, serving: list[asyncio.Task[None]], shutdown: Shutdown
) -> int:
    requested = asyncio.ensure_future(shutdown.requested.wait())
    await asyncio.wait((requested, *serving), return_when=asyncio.FIRST_COMPLETED)
    if any(task.done() for task in serving):
        requested.cancel()
        log.error("http.ended", reason="the HTTP server ended by itself")
        return 1
    log.info("offloader: shutting down")
    clean = await offloader.drain(hurry=shutdown.hurry)
    if not clean:
        log.error("shutdown.jobs_left", reason="some jobs did not end")
    return 0 if clean else 1


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's."""
    import uvloop

    return uvloop.new_event_loop()
