"""`offloader worker`: from settings to a worker that ends when its jobs have."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from socket import gethostname, socket

from foundation.clock import SystemClock
from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from foundation.shutdown import Shutdown, shutdown_on_signals
from offloader.cli.serve import new_loop, outlive_hangups, reloading
from offloader.http_server import HttpServer
from offloader.listen import bind
from offloader.live_settings import LIVE_OF_WORKER
from offloader.logging_setup import change_levels, set_up_logging
from offloader.own_files import keep_to_itself
from offloader.reload import Part, Reloader, Reloads
from offloader.reload_parts import (
    CaBundlePart,
    CertificatePart,
    ConfigurationPart,
    SecretKeyPart,
)
from offloader.settings import LoggerSettings, Reading, Settings, TlsSettings, read_settings
from offloader.version import BUILD_VERSION
from offloader.worker.running import RunningWorker, running_worker

_ADDRESS = "worker.listen_address (WORKER_LISTENADDRESS)"

log = get_logger()


def work(config_path: Path) -> int:
    """Run until SIGTERM or SIGINT; 0 when it ended as asked.

    The first signal takes no more jobs and waits for those that run, without a limit; the second tells them
    to leave their calls. Containers run on without their worker, and the next one finds them.

    Raises:
        ConfigError, StoreError, BackendError: the worker cannot start.
    """
    keep_to_itself()
    outlive_hangups()
    reading = read_settings(config_path, os.environ)
    if reading.problems:
        raise ConfigError(str(reading.problems[0]))
    settings = reading.settings
    if fault := settings.jobs.celery.broker_fault:
        raise ConfigError(f"jobs.celery.broker_url: {fault}")
    sockets = bind(settings.worker.listen_address, setting=_ADDRESS)
    set_up_logging(_own_log(settings.logger))
    for warning in settings.warnings:
        log.warning("config.warning", text=warning)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_work(config_path, reading, sockets, os.environ))


def _own_log(settings: LoggerSettings) -> LoggerSettings:
    """A service on the same host writes and replaces the default file."""
    if settings.file_wanted:
        return settings
    return replace(settings, file_location="calls-offloader-worker.log")


async def _work(
    config_path: Path, reading: Reading, sockets: list[socket], environ: Mapping[str, str]
) -> int:
    settings = reading.settings
    own = settings.worker
    tls = TlsSettings(own.tls, own.tls_cert_file, own.tls_key_file)
    url = own.url or _url(sockets[0], tls=own.tls)
    with shutdown_on_signals() as shutdown:
        async with running_worker(settings, environ=environ, url=url) as worker:
            server = HttpServer(
                worker.app, tls=tls, tls_setting="worker.tls_cert_file", new_loop=new_loop
            )
            reloader = _reloader(config_path, environ, reading, worker, server)
            async with asyncio.TaskGroup() as tasks, reloading(reloader):
                serving = tasks.create_task(server.serve(sockets=sockets), name="http")
                log.info(
                    f"worker: listening on {own.listen_address}",  # noqa: G004 - for people
                    version=BUILD_VERSION,
                    name=own.name,
                    url=url,
                    backend=own.api_type,
                    slots=own.slots,
                )
                code = await _until_told(worker, serving, shutdown)
                worker.closing.set()
                server.should_exit = True
        log.info("worker: ended")
        return code


def _reloader(
    config_path: Path,
    environ: Mapping[str, str],
    reading: Reading,
    worker: RunningWorker,
    server: HttpServer,
) -> Reloader:
    own = reading.settings.worker

    def apply(settings: Settings) -> None:
        worker.retune(settings.jobs)
        change_levels(settings.logger)

    configuration = ConfigurationPart(
        config_path, environ, reading, live=LIVE_OF_WORKER, apply=apply
    )
    parts: list[Part] = [
        configuration,
        CaBundlePart(lambda: configuration.settings.jobs.network.ca_cert_file, worker.trust),
        SecretKeyPart(worker.key_place, worker.cipher),
    ]
    if own.tls:
        tls = TlsSettings(own.tls, own.tls_cert_file, own.tls_key_file)
        parts.append(CertificatePart(tls, server.show, setting="worker.tls_cert_file"))
    return Reloader(parts, reloads=Reloads(SystemClock()))


async def _until_told(
    worker: RunningWorker, serving: asyncio.Task[None], shutdown: Shutdown
) -> int:
    async def told() -> None:
        await shutdown.requested.wait()
        log.info("worker: draining", jobs=worker.house.jobs)
        await worker.drain(hurry=shutdown.hurry)

    ending = asyncio.ensure_future(told())
    await asyncio.wait((ending, serving), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        ending.cancel()
        log.error("http.ended", reason="the HTTP server ended by itself")
        return 1
    await ending
    return 0


def _url(sock: socket, *, tls: bool) -> str:
    """Where the address leaves the port open, only the socket knows it."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # nosec B104  # compared, not bound
        host = gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http{'s' if tls else ''}://{shown}:{port}"
