"""The step `ice-servers` where there is nothing to ask; servers that answer are in test_live.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from offloader.doctor.network.ice_servers import ICE_SERVERS, Server

Look = Callable[..., Awaitable[Any]]
CONFIG = "/plugins/com.mattermost.calls/config"
TOKEN = "a-token-of-this-test"


async def test_only_users_are_told_of_servers(look: Look, site: Any) -> None:
    assert (await look(ICE_SERVERS, site_url=site.url)).verdicts == {
        "ice_servers_need_token": "skipped"
    }


async def test_a_plugin_may_name_none(look: Look, site: Any, client_config: Any) -> None:
    site.answers[CONFIG] = (200, client_config())
    found = await look(ICE_SERVERS, site_url=site.url, token=TOKEN)
    assert found.verdicts == {"ice_servers_none": "skipped"}


async def test_a_plugin_that_does_not_tell_is_not_taken_for_one_without(
    look: Look, site: Any
) -> None:
    site.answers[CONFIG] = (401, {"message": "no"})
    found = (await look(ICE_SERVERS, site_url=site.url, token=TOKEN))["ice_servers_unknown"]
    assert found.cause == "HTTP 401: see plugin"


async def test_a_turn_server_without_credentials_is_not_asked(
    look: Look, site: Any, client_config: Any
) -> None:
    entries = [{"urls": ["turn:127.0.0.1:1", "nonsense"]}]
    site.answers[CONFIG] = (200, client_config(ICEServersConfigs=entries))
    found = await look(ICE_SERVERS, site_url=site.url, token=TOKEN)
    assert found.verdicts == {"turn_no_credentials": "skipped"}


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("stun:host", ("host", 3478, "udp", False)),
        ("stuns:host", ("host", 5349, "tcp", True)),
        ("turn:host:80?transport=tcp", ("host", 80, "tcp", False)),
        ("turns:[2001:db8::1]:443?transport=tcp", ("2001:db8::1", 443, "tcp", True)),
        ("http://host", None),
        ("turn:", None),
    ],
)
def test_urls_are_read(url: str, place: tuple[str, int, str, bool] | None) -> None:
    server = Server.parse(url, {})
    found = server and (server.host, server.port, server.transport, server.tls)
    assert found == place
