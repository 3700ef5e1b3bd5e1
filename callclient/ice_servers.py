"""The STUN and TURN servers of the plugin's configuration (calls-plugin.md 4.11). Nobody else's: without any
there, none is asked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from callclient.plugin_api import ApiError, PluginApi
from foundation.logs import get_logger
from rtc.turn.servers import IceServer, read_servers

FetchServers = Callable[[], Awaitable[list[IceServer]]]
_TRIES: Final = 3
_TIMEOUT_S: Final = 5.0


async def fetch_ice_servers(api: PluginApi) -> list[IceServer]:
    """The configured servers, those with short-lived credentials included.

    Raises:
        ApiError: the plugin did not answer, or has no credentials to give.
    """
    config = await api.client_config()
    servers, problems = read_servers(config.get("ICEServersConfigs"))
    if config.get("NeedsTURNCredentials") is True:
        more, more_problems = read_servers(await api.turn_credentials())
        servers += more
        problems += more_problems
    for problem in problems:
        get_logger(component="ice-servers").warning("ice_server.ignored", reason=problem)
    return servers


async def fetch_patiently(
    *, site_url: str, auth_token: str, ca_file: Path | None, site_is_allowed: bool
) -> list[IceServer]:
    """As `fetch_ice_servers`, tried again where that may help: all jobs share the bot's allowance of one
    request per second. Without an answer there are no servers, which a log line says."""
    log = get_logger(component="ice-servers")
    try:
        async with PluginApi(
            site_url=site_url,
            auth_token=auth_token,
            ca_file=ca_file,
            site_is_allowed=site_is_allowed,
            timeout_s=_TIMEOUT_S,
        ) as api:
            for attempt in range(_TRIES):
                try:
                    return await fetch_ice_servers(api)
                except ApiError as error:
                    last = attempt == _TRIES - 1
                    if last or not error.retryable:
                        log.warning("ice_servers.unknown", reason=str(error))
                        return []
                await asyncio.sleep(random.uniform(0.5, 1.5) * (attempt + 1))
    except OSError as error:
        log.warning("ice_servers.unknown", reason=error.strerror or type(error).__name__)
    return []
