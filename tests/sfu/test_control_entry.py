"""Who gets into the WebSocket (rtcd.md 2.1, traps 3 and 6)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from foundation.clock import ManualClock
from sfu.messages import (
    Close,
    Join,
)

KEY = "k" * 32


def join(session_id: str = "s1", call_id: str = "call", **changes: Any) -> Join:
    return Join(call_id, "user", session_id, "channel", **changes)


async def test_a_hello_with_the_client_and_a_fresh_id_comes_first(plane) -> None:
    hellos = [(await plane.connect()).hello for _ in range(3)]
    hellos.append((await plane.connect("other")).hello)
    assert [hello.client_id for hello in hellos] == ["plugin", "plugin", "plugin", "other"]
    assert len({hello.conn_id for hello in hellos}) == 4
    for hello in hellos:
        assert re.fullmatch(r"[ybndrfg8ejkmcpqxot1uwisza345h769]{26}", hello.conn_id)


async def test_a_bearer_token_opens_the_websocket_until_it_expires(plane) -> None:
    login = await plane.http.post("/login", json={"clientID": "plugin", "authKey": KEY})
    bearer = {"Authorization": f"Bearer {login.json()['bearerToken']}"}
    assert (await plane.try_connect(bearer)).hello.client_id == "plugin"
    clock: ManualClock = plane.clock
    clock.advance(seconds=601)
    refused = await plane.try_connect(bearer)
    assert refused.denial == (401, "authentication failed: session is expired\n")


async def test_a_failed_authentication_is_401_and_no_upgrade(plane) -> None:
    """Trap 3: the original answers 200 with an empty body; 401 is clearer and as well understood."""
    for headers, text in (
        ({}, "authentication failed: invalid auth header"),
        ({"Authorization": "Basic \xe9"}, "authentication failed: invalid auth header"),
        (plane.basic("plugin", KEY + " "), "authentication failed"),
        (plane.basic("nobody"), "authentication failed"),
        (plane.basic(""), "authentication failed: unauthorized"),
        ({"Authorization": "Bearer x"}, "authentication failed: token is invalid"),
    ):
        socket = await plane.try_connect(headers)
        assert (socket.hello, socket.denial) == (None, (401, text + "\n"))


async def test_two_headers_of_which_there_should_be_one_are_refused(plane) -> None:
    text = "header Authorization should be there once"
    twice = plane.basic() | {"authorization": plane.basic("other")["Authorization"]}
    socket = await plane.try_connect(twice)
    assert socket.denial is not None
    assert (socket.denial[0], json.loads(socket.denial[1])["error"]) == (400, text)
    for path in ("/calls/c/sessions", "/version"):
        answer = await plane.http.get(path, headers=list(twice.items()))
        assert (answer.status_code, answer.json()["error"]) == (400, text)


async def test_the_websocket_registers_nobody(start_plane) -> None:
    plane = await start_plane(allow_self_registration=True)
    assert (await plane.try_connect(plane.basic("unknown"))).denial[0] == 401


@pytest.mark.parametrize("origin", ["http://sfu:8045", "https://sfu:8045"])
async def test_a_page_of_this_host_may_connect(plane, origin: str) -> None:
    assert (await plane.connect(Origin=origin)).hello is not None


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://sfu", "http://sfu:80", "null", "sfu:8045", "http://["]
)
async def test_a_page_of_another_host_may_not(plane, origin: str) -> None:
    socket = await plane.try_connect(plane.basic() | {"Origin": origin})
    assert socket.denial[0] == 403


async def test_the_admin_gets_in_without_a_group_and_cannot_make_sessions(live) -> None:
    """Trap 6; the close tells what the original only logs."""
    socket = await live.try_connect(live.admin())
    assert socket.hello.client_id == ""
    socket.send(join("s1"))
    assert await socket.receive() == Close("s1")
    assert live.media.session("s1") is None
