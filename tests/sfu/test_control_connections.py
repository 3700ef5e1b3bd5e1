"""Connections of the plugin that come and go, and that are slow (rtcd.md 2.3, trap 7)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest
from structlog.testing import capture_logs

from sfu.messages import (
    Close,
    Join,
    Leave,
    Reconnect,
    Rtc,
    RtcMessage,
    RtcType,
)


def join(session_id: str = "s1", call_id: str = "call", **changes: Any) -> Join:
    return Join(call_id, "user", session_id, "channel", **changes)


def mute(session_id: str) -> Rtc:
    return Rtc(RtcMessage(RtcType.MUTE, session_id))


def rtc(number: int) -> Rtc:
    return Rtc(RtcMessage(RtcType.ICE, "s1", str(number).encode(), "plugin", "user", "call"))


async def test_losing_the_connection_does_not_touch_its_sessions(live) -> None:
    first = await live.connect()
    first.send(join("s1"))
    assert await first.settle() == []
    await live.disconnect(first)
    assert live.media.session("s1") is not None
    response = await live.http.get("/calls/call/sessions/s1", headers=live.basic())
    assert response.status_code == 200


async def test_what_a_session_says_while_its_plugin_is_away_is_dropped(plane) -> None:
    first = await plane.connect()
    first.send(join("s1"))
    assert await first.settle() == []
    await plane.disconnect(first)
    for number in range(10_000):  # more than any queue
        plane.media.outlets["s1"](rtc(number))
    second = await plane.connect()
    second.send(Reconnect("s1"))
    assert await second.settle() == []
    plane.media.outlets["s1"](rtc(1))
    assert await second.receive() == rtc(1)


async def test_after_a_reconnect_everything_goes_to_the_new_connection_the_close_too(live) -> None:
    """Trap 7: the original sends the close to the connection of the join, where nobody reads."""
    first = await live.connect()
    first.send(join("s1"))
    first.send(join("s2"))
    assert await first.settle() == []
    second = await live.connect()
    second.send(Reconnect("s1"))
    assert await second.settle() == []
    first.send(Leave("s1"))
    assert await second.receive() == Close("s1")
    first.send(Leave("s2"))
    assert await first.receive() == Close("s2")
    assert await first.settle() == []


async def test_a_reconnect_is_asked_for_each_session(plane) -> None:
    first = await plane.connect()
    first.send(join("s1"))
    first.send(join("s2"))
    assert await first.settle() == []
    second = await plane.connect()
    second.send(Reconnect("s2"))
    assert await second.settle() == []
    for session_id in ("s1", "s2"):
        plane.media.outlets[session_id](mute(session_id))
    assert await first.settle() == [mute("s1")]
    assert await second.settle() == [mute("s2")]


async def test_a_full_send_queue_drops_the_newest_and_nobody_waits(
    plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfu.plugin_connection.SEND_CAPACITY", 10)
    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []
    socket.writable.clear()
    for number in range(30):
        plane.media.outlets["s1"](rtc(number))
    socket.writable.set()
    assert [await socket.receive() for _ in range(10)] == [rtc(number) for number in range(10)]
    plane.media.outlets["s1"](rtc(100))
    assert await socket.receive() == rtc(100)


@pytest.mark.documents(
    "a-message-that-the-sfu-does-not-understand",
    "a-message-that-the-sfu-does-not-understand/2",
    "a-message-that-the-sfu-does-not-understand/3",
    "a-message-that-the-sfu-does-not-understand/4",
    "a-message-that-the-sfu-does-not-understand/5",
    "a-message-that-the-sfu-does-not-understand/6",
    "a-message-that-the-sfu-does-not-understand/7",
    "a-message-that-the-sfu-does-not-understand/8",
)
async def test_whatever_is_no_message_is_dropped_with_its_reason(plane, documented) -> None:
    member = {"session_id": "s1", "type": 3}
    frames = [
        b"\xc1",
        msgpack.packb("leave"),
        _frame("pause", {}),
        _frame("rtc", member | {"type": 99}),
        _frame("rtc", member | {"data": "text"}),
        _frame("join", {"sessionID": 5}),
        _frame("join", {"sessionID": "s1", "dcSignaling": 1}),
        _frame("leave", {"sessionID": ""}),
    ]
    socket = await plane.connect()
    with capture_logs() as lines:
        for frame in frames:
            socket.send(frame)
        assert await socket.settle() == []
    reasons = [line["reason"] for line in lines if line["event"] == "ws.message_dropped"]
    for number, reason in enumerate(reasons, 1):
        suffix = f"/{number}" if number > 1 else ""
        documented(f"a-message-that-the-sfu-does-not-understand{suffix}", reason)


def _frame(kind: str, body: dict[str, Any]) -> bytes:
    return bytes(msgpack.packb(kind) + msgpack.packb(body))


@pytest.mark.documents("something-went-wrong-in-a-session/3")
async def test_a_fault_over_one_message_costs_the_connection_nothing(
    plane, documented, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []

    async def broken(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    with monkeypatch.context() as patch, capture_logs() as lines:
        patch.setattr(plane.media, "handle", broken)
        socket.send(mute("s1"))
        assert await socket.settle() == []
    [failed] = [line for line in lines if line["log_level"] == "error"]
    documented("something-went-wrong-in-a-session/3", failed["event"])
    socket.send(mute("s1"))
    assert await socket.settle() == []
    assert len(plane.media.handled) == 1


async def test_a_peer_that_reads_nothing_does_not_hold_up_the_others(plane) -> None:
    stuck, other = await plane.connect(), await plane.connect("other")
    stuck.send(join("s1"))
    assert await stuck.settle() == []
    stuck.writable.clear()
    for number in range(20):
        plane.media.outlets["s1"](rtc(number))
    other.send(join("s2"))
    assert await other.settle() == []
    plane.media.outlets["s2"](mute("s2"))
    assert await other.receive() == mute("s2")


async def test_a_write_that_fails_ends_the_writing_and_no_session(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []
    socket.broken = True
    plane.media.outlets["s1"](rtc(1))
    await plane.disconnect(socket)  # raises what the server's handler raised
    assert plane.media.session("s1") is not None


async def test_a_media_plane_that_ends_tells_every_plugin(live) -> None:
    one, two = await live.connect(), await live.connect("other")
    one.send(join("s1"))
    two.send(join("s2"))
    assert await one.settle() == []
    assert await two.settle() == []
    await live.media.close()
    assert await one.receive() == Close("s1")
    assert await two.receive() == Close("s2")


@pytest.mark.looptime
async def test_a_peer_that_reads_nothing_for_10_s_is_cut_off_and_its_sessions_live(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []
    socket.writable.clear()
    plane.media.outlets["s1"](rtc(1))
    await asyncio.sleep(9)
    assert not socket.gone
    await asyncio.sleep(2)
    assert socket.gone
    assert plane.media.session("s1") is not None


async def test_a_leave_that_takes_long_holds_up_nobody_but_a_join_of_the_same_session(
    plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_leave = asyncio.Event()
    leave = plane.media.leave

    async def slow_leave(session_id: str) -> None:
        await may_leave.wait()
        await leave(session_id)

    monkeypatch.setattr(plane.media, "leave", slow_leave)
    socket = await plane.connect()
    socket.send(join("s1"))
    socket.send(join("s2"))
    for _ in range(3):
        socket.send(Leave("s1"))
    socket.send(mute("s2"))
    assert await socket.settle() == []
    assert plane.media.handled == [mute("s2").message]
    socket.send(join("s1", call_id="another"))
    may_leave.set()
    assert await socket.receive() == Close("s1")
    assert await socket.settle() == []
    assert plane.media.configs["s1"].call_id == "another"


async def test_an_error_of_the_media_plane_costs_one_session_and_no_connection(
    plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []
    with monkeypatch.context() as patch:
        for name in ("join", "handle", "leave"):
            patch.setattr(plane.media, name, broken)
        socket.send(mute("s1"))
        socket.send(Leave("s1"))
        socket.send(join("s2"))
        assert await socket.receive() == Close("s2")
    socket.send(mute("s1"))
    assert await socket.settle() == []
    assert plane.media.handled == [mute("s1").message]
