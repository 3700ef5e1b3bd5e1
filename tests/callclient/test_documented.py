"""What a job says of a WebSocket that it loses and of a join that is refused."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from callclient.errors import JoinRefused, SignalingFailed
from callclient.signaling.connection import SignalingConnection


@pytest.mark.documents("mattermost-refuses-the-join")
def test_a_refused_join_has_the_plugin_s_reason(documented: Any) -> None:
    documented("mattermost-refuses-the-join", str(JoinRefused.of("forbidden by somebody")))


@pytest.mark.documents(
    "a-websocket-that-is-lost", "a-websocket-that-is-lost/2", "a-websocket-that-is-lost/3"
)
async def test_a_websocket_that_is_lost_is_told_by_when_it_was(documented: Any) -> None:
    entry = "a-websocket-that-is-lost"

    async def lost() -> str:
        return "the server has fallen silent"

    hello = asyncio.Event()
    connection: Any = SimpleNamespace(
        session_id="",
        _hello=hello,
        _time=SimpleNamespace(monotonic_ns=lambda: 0),
        _serve_once=lost,
        _log=SimpleNamespace(warning=lambda *_, **__: None),
        _backoff=SimpleNamespace(next_s=lambda: 31),
        _reconnect_limit_s=30,
    )
    connection._failure = lambda reason: SignalingConnection._failure(connection, reason)

    async def failure() -> str:
        with pytest.raises(SignalingFailed) as failed:
            await SignalingConnection.run(connection)
        return str(failed.value)

    documented(entry, await failure())
    hello.set()
    documented(f"{entry}/2", await failure())
    hello.clear()
    connection.session_id = "session"
    documented(f"{entry}/3", await failure())
