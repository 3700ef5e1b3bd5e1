"""`python -m sfu [--config FILE]`: the selective forwarding unit as a process."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop

from clientauth.service import ClientAuth
from clientauth.sessions import SessionCache
from clientauth.store import FileClientStore
from foundation.clock import SystemClock
from foundation.layered_config import ConfigError
from foundation.logs import configure_logs, get_logger
from foundation.shutdown import shutdown_on_signals
from rtc.errors import PortTaken
from sfu.control import create_app
from sfu.server import SfuServer
from sfu.settings import SfuSettings, load_settings

_MAX_MESSAGE_BYTES = 1 << 20
_PING_INTERVAL_S = 10.0
_PONG_TIMEOUT_S = 20.0


class StartError(Exception):
    """The process cannot start; the message tells the admin what to do."""


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sfu", description=__doc__)
    parser.add_argument("-config", "--config", default="config/config.toml", type=Path)
    arguments = parser.parse_args()
    try:
        settings = load_settings(arguments.config, os.environ)
        level = settings.console_level.lower() or "error"
        if level == "stdlog":  # rtcd's lowest level, below trace
            level = "trace"
        configure_logs(level=level, json=settings.console_json)
        uvloop.run(_serve(settings))
    except (ConfigError, StartError) as error:
        sys.stderr.write(f"sfu: failed to start: {error}\n")
        return 1
    return 0


async def _serve(settings: SfuSettings) -> None:
    log = get_logger(component="sfu")
    for key in settings.unknown_keys:
        log.warning("config.unknown_key", key=key)
    clock = SystemClock()
    auth = ClientAuth(
        store=FileClientStore(settings.store_directory),
        sessions=SessionCache(expiration_minutes=settings.session_expiration_minutes, clock=clock),
        clock=clock,
        enable_admin=settings.enable_admin,
        admin_secret_key=settings.admin_secret_key,
        allow_self_registration=settings.allow_self_registration,
    )
    media = SfuServer(bind_addresses=settings.ice_addresses_udp, udp_port=settings.ice_port_udp)
    listener = _listen(settings)
    try:
        await media.start()
    except PortTaken as error:
        raise StartError(
            f"the media port for the SFU is taken: {error}; change rtc.ice_port_udp "
            "(RTCD_RTC_ICEPORTUDP)"
        ) from error
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(media=media, auth=auth),
            log_config=None,
            access_log=False,
            ws_max_size=_MAX_MESSAGE_BYTES,
            ws_ping_interval=_PING_INTERVAL_S,
            ws_ping_timeout=_PONG_TIMEOUT_S,
            timeout_graceful_shutdown=2,
            ssl_certfile=settings.tls_cert_file or None,
            ssl_keyfile=settings.tls_cert_key or None,
        )
    )
    with shutdown_on_signals() as shutdown:
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server._serve([listener]), name="http")
            log.info(
                "sfu: listening on",
                http=f"{settings.listen_host or '*'}:{settings.listen_port}",
                media=f"{','.join(settings.ice_addresses_udp) or '*'}:{media.udp_port}/udp",
            )
            await shutdown.requested.wait()
            await media.close()
            server.should_exit = True
            await serving


def _listen(settings: SfuSettings) -> socket.socket:
    host = settings.listen_host
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, settings.listen_port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"port {settings.listen_port} for the SFU's HTTP API cannot be used: {error.strerror}; "
            "change api.http.listen_address (RTCD_API_HTTP_LISTENADDRESS)"
        ) from error
    listener.listen(128)
    return listener


if __name__ == "__main__":
    sys.exit(main())
