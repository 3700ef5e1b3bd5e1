"""`python -m sfu [--config FILE]`: the selective forwarding unit as a process (rtcd.md 1.1)."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import socket
import ssl
import sys
import tracemalloc
from pathlib import Path

import uvloop

from clientauth.service import ClientAuth
from clientauth.sessions import SessionCache
from clientauth.store import FileClientStore
from foundation.clock import Clock, SystemClock
from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from foundation.shutdown import shutdown_on_signals
from rtc.errors import PortTaken
from rtc.net.doorman import MAX_WORKERS
from sfu.addresses import AddressError
from sfu.announcing import Announcer
from sfu.control import create_app, create_monitor_app
from sfu.drain import Drain
from sfu.flood import FloodLimits
from sfu.http_server import HttpServer, Timing, listen, tls_context
from sfu.logging_setup import lowest_level, set_up_logging
from sfu.server import SfuServer
from sfu.settings import SfuSettings, load_settings
from sfu.system_checks import shortages, usable_cores
from sfu.workers.pool import WorkerPool
from sfu.workers.process import WorkerFailed

_TIMING = Timing()
_TRACED_FRAMES = 8


class StartError(Exception):
    """The process cannot start; the message tells the admin what to do."""


def main() -> int:
    """Entry point; returns the exit code."""
    if sys.argv[1:2] == ["loadtest"]:
        from sfu.loadtest.cli import main as loadtest  # its imports are not for the server

        return loadtest(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="sfu", description=__doc__, epilog="`sfu loadtest --help`: simulated participants."
    )
    parser.add_argument("-config", "--config", default="config/config.toml", type=Path)
    arguments = parser.parse_args()
    try:
        settings = load_settings(arguments.config, os.environ)
        set_up_logging(settings)
        # Its workers inherit it: a dump would hold clients' keys and what is said in the calls.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _tell(settings, arguments.config)
        if settings.profile_allocations:
            tracemalloc.start(_TRACED_FRAMES)
        uvloop.run(_serve(settings))
    except (ConfigError, StartError) as error:
        sys.stderr.write(f"sfu: failed to start: {error}\n")
        return 1
    return 0


def _tell(settings: SfuSettings, path: Path) -> None:
    """What is worth a line before anything starts."""
    log = get_logger(component="sfu")
    if not settings.file_found:
        log.info("config.no_file", path=str(path), used="defaults and environment")
    for key in settings.unknown_keys:
        log.warning("config.unknown_key", key=key)
    if str(settings.store_directory).startswith("/tmp/"):  # nosec B108  # warned of
        log.warning(
            "store.temporary",
            directory=str(settings.store_directory),
            reason="registered clients are forgotten when /tmp is: set store.data_source",
        )
    if any(server.is_turn for server in settings.ice_servers):
        log.warning("turn.not_used", reason="the SFU gathers no relay candidates: see docs/sfu.md")
    for shortage in shortages():
        log.warning(
            "system.limit_low",
            name=shortage.name,
            found=shortage.found,
            wanted=shortage.wanted,
            mend=shortage.command,
        )


def _auth(settings: SfuSettings, clock: Clock) -> ClientAuth:
    return ClientAuth(
        store=FileClientStore(settings.store_directory),
        sessions=SessionCache(expiration_minutes=settings.session_expiration_minutes, clock=clock),
        clock=clock,
        enable_admin=settings.enable_admin,
        admin_secret_key=settings.admin_secret_key,
        allow_self_registration=settings.allow_self_registration,
    )


def _media(settings: SfuSettings) -> SfuServer | WorkerPool:
    """One process, or as many as the settings say. Raises AddressError."""
    announcer = Announcer(settings)
    processes = min(settings.worker_processes or usable_cores(), MAX_WORKERS)
    if processes == 1:
        return SfuServer(
            announced=announcer,
            listening=announcer.listening,
            udp_port=settings.ice_port_udp,
            tcp_port=settings.ice_port_tcp,
            history_packets=settings.nack_buffer_size,
            skip_hello_verify=settings.skip_hello_verify,
            limits=settings.limits,
        )
    return WorkerPool(
        processes=processes,
        announced=announcer,
        listening=announcer.listening,
        udp_port=settings.ice_port_udp,
        tcp_port=settings.ice_port_tcp,
        history_packets=settings.nack_buffer_size,
        skip_hello_verify=settings.skip_hello_verify,
        log_level=lowest_level(settings),
        limits=settings.limits,
    )


async def _serve(settings: SfuSettings) -> None:
    log = get_logger(component="sfu")
    clock = SystemClock()
    tls = _tls(settings)
    with contextlib.ExitStack() as opened:  # here they are closed only if something fails
        listener = opened.enter_context(_listen(settings))
        monitor = None if settings.monitor is None else opened.enter_context(_monitor(settings))
        media = await _start_media(settings)
        opened.pop_all()
    drain = Drain(media=media, clock=clock)
    floods = FloodLimits(
        clock=clock,
        session_messages_per_s=settings.session_messages_per_s,
        client_joins_per_s=settings.client_joins_per_s,
    )
    app = create_app(
        media=media,
        auth=_auth(settings, clock),
        drain=drain,
        floods=floods,
        clock=clock,
        monitor_apart=monitor is not None,
        system_apart=settings.monitor_system,
    )
    servers = [(HttpServer(app, tls=tls, timing=_TIMING), listener)]
    if monitor is not None:
        servers.append((HttpServer(create_monitor_app(app), tls=tls, timing=_TIMING), monitor))
    with shutdown_on_signals() as shutdown:
        async with asyncio.TaskGroup() as tasks:
            for server, listening in servers:
                tasks.create_task(server.serve([listening]), name="http")
            log.info(
                "sfu: listening on",
                http=f"{settings.listen_host or '*'}:{settings.listen_port}",
                media=f"{','.join(settings.ice_addresses_udp) or '*'}:{media.udp_port}/udp",
                media_tcp=f"{','.join(settings.ice_addresses_tcp) or '*'}:{media.tcp_port}/tcp",
                monitor=_host_and_port(settings.monitor),
            )
            await shutdown.requested.wait()
            await drain.stop(
                refusal=settings.drain_refuse,
                timeout_s=settings.drain_timeout_s,
                hurry=shutdown.hurry,
            )
            await media.close()
            for server, _ in servers:
                server.should_exit = True


def _host_and_port(address: tuple[str, int] | None) -> str:
    """As in `api.monitor.listen_address`; `-`: there is none."""
    return "-" if address is None else f"{address[0] or '*'}:{address[1]}"


def _media_port_text(error: PortTaken) -> str:
    """The words of the original, and which setting helps."""
    if str(error).startswith("TCP"):
        what, setting = "failed to create TCP listener", "rtc.ice_port_tcp (RTCD_RTC_ICEPORTTCP)"
    else:
        what = "failed to create UDP connections: failed to listen on udp"
        setting = "rtc.ice_port_udp (RTCD_RTC_ICEPORTUDP)"
    return f"{what}: {error}; change {setting}"


def _tls(settings: SfuSettings) -> ssl.SSLContext | None:
    if not settings.tls_cert_file:
        return None
    try:
        return tls_context(settings.tls_cert_file, settings.tls_cert_key)
    except OSError as error:
        raise StartError(f"api.http.tls: certificate or key cannot be used: {error}") from error


async def _start_media(settings: SfuSettings) -> SfuServer | WorkerPool:
    """Raises StartError."""
    try:
        media = _media(settings)
        await media.start()
    except (AddressError, WorkerFailed) as error:
        raise StartError(str(error)) from error
    except PortTaken as error:
        raise StartError(_media_port_text(error)) from error
    return media


def _listen(settings: SfuSettings) -> socket.socket:
    try:
        return listen(settings.listen_host, settings.listen_port)
    except OSError as error:
        raise StartError(
            f"port {settings.listen_port} for the SFU's HTTP API cannot be used: {error.strerror}; "
            "change api.http.listen_address (RTCD_API_HTTP_LISTENADDRESS)"
        ) from error


def _monitor(settings: SfuSettings) -> socket.socket:
    assert settings.monitor is not None
    host, port = settings.monitor
    try:
        return listen(host, port)
    except OSError as error:
        raise StartError(
            f"port {port} for monitors of the SFU cannot be used: {error.strerror}; change "
            "api.monitor.listen_address (RTCD_API_MONITOR_LISTENADDRESS)"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
