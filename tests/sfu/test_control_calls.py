"""Calls and sessions over HTTP (rtcd.md 1.4)."""

from __future__ import annotations

from typing import Any

import pytest

from sfu.messages import (
    Join,
)


def join(session_id: str = "s1", call_id: str = "call", **changes: Any) -> Join:
    return Join(call_id, "user", session_id, "channel", **changes)


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !", "basic cGx1Z2luOng=", "Digest x", "Bearer x", "Basic \xe9"]
)
async def test_calls_are_shown_to_nobody_without_authentication(plane, header: str) -> None:
    for path in ("/calls/call/sessions", "/calls/call/sessions/s1"):
        headers = [(b"authorization", header.encode("latin-1"))] if header else []
        response = await plane.http.get(path, headers=headers)
        assert (response.status_code, response.text.strip()) == (401, "unauthorized")


async def test_calls_are_not_shown_to_the_admin_who_has_no_group(plane) -> None:
    for path in ("/calls/call/sessions", "/calls/call/sessions/s1"):
        response = await plane.http.get(path, headers=plane.admin())
        assert (response.status_code, response.text.strip()) == (401, "unauthorized")


async def test_sessions_are_shown_with_the_names_of_gos_members(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1", av1_support=True))
    socket.send(join("s2", dc_signaling=True))
    socket.send(join("s3", call_id="another"))
    assert await socket.settle() == []
    expected = [
        {
            "GroupID": "plugin",
            "CallID": "call",
            "UserID": "user",
            "SessionID": session_id,
            "Props": {"av1Support": av1, "channelID": "channel", "dcSignaling": not av1},
        }
        for session_id, av1 in (("s1", True), ("s2", False))
    ]
    response = await plane.http.get("/calls/call/sessions", headers=plane.basic())
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/json")
    assert sorted(response.json(), key=lambda item: item["SessionID"]) == expected
    response = await plane.http.get("/calls/call/sessions/s2", headers=plane.basic())
    assert (response.status_code, response.json()) == (200, expected[1])


async def test_what_is_not_there_is_404_with_a_text(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []
    for path, text in (
        ("/calls/nowhere/sessions", "failed to get session configs: call not found"),
        ("/calls/nowhere/sessions/s1", "failed to get session config: call not found"),
        ("/calls/call/sessions/nobody", "failed to get session config: session not found"),
    ):
        response = await plane.http.get(path, headers=plane.basic())
        assert (response.status_code, response.text.strip()) == (404, text)


async def test_the_calls_of_another_client_are_not_there(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []
    for path in ("/calls/call/sessions", "/calls/call/sessions/s1"):
        response = await plane.http.get(path, headers=plane.basic("other"))
        assert response.status_code == 404
        assert response.text.startswith("failed to get session config")
        assert (await plane.http.get(path, headers=plane.basic())).status_code == 200


async def test_a_client_without_any_call_is_told_so(plane) -> None:
    for path, text in (
        ("/calls/call/sessions", "failed to get session configs: group not found"),
        ("/calls/call/sessions/s1", "failed to get session config: group not found"),
    ):
        response = await plane.http.get(path, headers=plane.basic())
        assert (response.status_code, response.text) == (404, text + "\n")
