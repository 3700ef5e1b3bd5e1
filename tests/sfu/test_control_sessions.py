"""What a session's life looks like from the WebSocket (rtcd.md 2.3, traps 4 and 5)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgpack
import pytest

from callclient.media import CallMedia
from rtc import calls_dc
from sfu.media_port import SessionConfig
from sfu.messages import (
    Close,
    Join,
    Leave,
    Reconnect,
    Rtc,
    RtcMessage,
    RtcType,
    Vad,
)

DEEP = b'{"candidate":' + b"[" * 20_000 + b"]" * 20_000 + b"}"


def join(session_id: str = "s1", call_id: str = "call", **changes: Any) -> Join:
    return Join(call_id, "user", session_id, "channel", **changes)


def mute(session_id: str) -> Rtc:
    return Rtc(RtcMessage(RtcType.MUTE, session_id))


def rtc(number: int) -> Rtc:
    return Rtc(RtcMessage(RtcType.ICE, "s1", str(number).encode(), "plugin", "user", "call"))


async def test_a_join_makes_a_session_and_is_not_acknowledged(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1", av1_support=True, dc_signaling=True))
    assert await socket.settle() == []
    assert plane.media.configs == {
        "s1": SessionConfig(
            *("plugin", "call", "user", "s1", "channel"), av1_support=True, dc_signaling=True
        )
    }


async def test_the_group_of_a_session_is_the_authenticated_client_whatever_a_join_says(
    plane,
) -> None:
    socket = await plane.connect("other")
    body = {"callID": "call", "userID": "user", "sessionID": "s1", "groupID": "plugin"}
    socket.send(msgpack.packb("join") + msgpack.packb(body))
    assert await socket.settle() == []
    assert plane.media.configs["s1"].group_id == "other"


@pytest.mark.parametrize("missing", ["call_id", "user_id"])
async def test_a_join_that_fails_ends_in_a_close_so_that_nobody_waits(live, missing: str) -> None:
    """Trap 4."""
    socket = await live.connect()
    ids = {"call_id": "call", "user_id": "user", "session_id": "s1"} | {missing: ""}
    socket.send(Join(**ids))
    assert await socket.receive() == Close("s1")
    assert live.media.sessions("plugin", "call") is None


async def test_a_join_without_a_session_id_has_nothing_to_close(live) -> None:
    socket = await live.connect()
    socket.send(Join("call", "user", ""))
    assert await socket.settle() == []
    assert live.media.sessions("plugin", "call") is None


@pytest.mark.parametrize("client", ["plugin", "other"])
async def test_a_second_join_of_a_live_session_neither_ends_nor_takes_it(
    plane, client: str
) -> None:
    first, second = await plane.connect(), await plane.connect(client)
    first.send(join("s1"))
    assert await first.settle() == []
    second.send(join("s1", call_id="another"))
    assert await second.settle() == []
    assert plane.media.configs["s1"] == SessionConfig("plugin", "call", "user", "s1", "channel")
    plane.media.outlets["s1"](rtc(1))
    assert await first.receive() == rtc(1)


async def test_messages_are_handed_to_their_session_in_order(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    for number in range(100):
        socket.send(rtc(number))
    assert await socket.settle() == []
    assert plane.media.handled == [rtc(number).message for number in range(100)]


async def test_messages_of_several_connections_are_all_handled(plane) -> None:
    one, two = await plane.connect(), await plane.connect("other")
    one.send(join("s1"))
    two.send(join("s2"))
    one.send(mute("s1"))
    two.send(mute("s2"))
    assert await one.settle() == []
    assert await two.settle() == []
    assert {message.session_id for message in plane.media.handled} == {"s1", "s2"}


async def test_another_connection_of_the_same_client_may_steer_its_sessions(plane) -> None:
    one, two = await plane.connect(), await plane.connect()
    one.send(join("s1"))
    assert await one.settle() == []
    two.send(mute("s1"))
    assert await two.settle() == []
    assert plane.media.handled == [mute("s1").message]


async def test_a_client_cannot_steer_end_or_take_over_the_session_of_another(plane) -> None:
    """Trap 5."""
    owner, thief = await plane.connect(), await plane.connect("other")
    owner.send(join("s1"))
    assert await owner.settle() == []
    for message in (mute("s1"), Leave("s1"), Reconnect("s1")):
        thief.send(message)
    assert await thief.settle() == []
    assert plane.media.handled == []
    assert plane.media.session("s1") is not None
    plane.media.outlets["s1"](rtc(1))
    assert await thief.settle() == []
    assert await owner.receive() == rtc(1)


async def test_the_admin_cannot_steer_the_session_of_a_client_either(plane) -> None:
    owner, admin = await plane.connect(), await plane.try_connect(plane.admin())
    owner.send(join("s1"))
    assert await owner.settle() == []
    admin.send(Leave("s1"))
    assert await admin.settle() == []
    assert plane.media.session("s1") is not None


async def test_messages_for_unknown_sessions_are_ignored(plane) -> None:
    socket = await plane.connect()
    for message in (mute("nobody"), Leave("nobody"), Reconnect("nobody")):
        socket.send(message)
    assert await socket.settle() == []
    assert (plane.media.handled, plane.media.outlets) == ([], {})


async def test_what_a_session_says_goes_out_in_order_with_all_ids(plane) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    assert await socket.settle() == []
    voice = Vad(RtcMessage(RtcType.VOICE_ON, "s1", b"", "plugin", "user", "call"))
    sent = [rtc(number) for number in range(100)] + [voice, Close("s1")]
    for message in sent:
        plane.media.outlets["s1"](message)
    assert [await socket.receive() for _ in sent] == sent


async def test_a_leave_ends_in_a_close_and_a_second_one_in_nothing(live) -> None:
    socket = await live.connect()
    socket.send(join("s1"))
    socket.send(join("s2"))
    socket.send(Leave("s1"))
    assert await socket.receive() == Close("s1")
    socket.send(Leave("s1"))
    assert await socket.settle() == []
    response = await live.http.get("/calls/call/sessions", headers=live.basic())
    assert [config["SessionID"] for config in response.json()] == ["s2"]


async def test_a_call_is_gone_with_its_last_session(live) -> None:
    socket = await live.connect()
    socket.send(join("s1"))
    socket.send(Leave("s1"))
    assert await socket.receive() == Close("s1")
    response = await live.http.get("/calls/call/sessions", headers=live.basic())
    assert response.status_code == 404


async def test_a_session_that_left_can_join_again(live) -> None:
    socket = await live.connect()
    for _ in range(2):
        socket.send(join("s1"))
        assert await socket.settle() == []
        assert live.media.session("s1") is not None
        socket.send(Leave("s1"))
        assert await socket.receive() == Close("s1")


async def test_a_session_that_never_offers_is_closed(live, monkeypatch) -> None:
    monkeypatch.setattr("sfu.session.FIRST_OFFER_TIMEOUT_S", 0.02)
    socket = await live.connect()
    socket.send(join("s1"))
    assert await socket.receive() == Close("s1")


@pytest.mark.parametrize("sdp", ["", "v=0", "\ud800", "v=0\r\nm=audio 9 x 0\r\n"])
async def test_a_first_offer_that_cannot_be_used_closes_its_session_and_no_other(
    live, sdp: str
) -> None:
    socket = await live.connect()
    socket.send(join("s1"))
    socket.send(join("s2"))
    data = json.dumps({"type": "offer", "sdp": sdp}).encode()
    socket.send(Rtc(RtcMessage(RtcType.SDP, "s1", data)))
    assert await socket.receive() == Close("s1")
    assert live.media.session("s2") is not None


@pytest.mark.parametrize(
    "kind", [RtcType.ICE, RtcType.SDP, RtcType.SCREEN_ON, RtcType.VIDEO_ON, RtcType.VOICE_ON]
)
@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b"[]", b"7", b'{"candidate":"x"}', b'{"type":[],"sdp":""}', DEEP],
    ids=lambda data: data[:20].decode("latin-1") or "empty",
)
async def test_data_that_a_participant_made_up_ends_neither_session_nor_connection(
    live, kind: RtcType, data: bytes
) -> None:
    """The plugin hands it on as it is: one participant must not cut off everybody."""
    socket = await live.connect()
    socket.send(join("s1"))
    socket.send(Rtc(RtcMessage(kind, "s1", data)))
    assert await socket.settle() == []
    assert live.media.session("s1") is not None


async def test_a_peer_connects_through_the_websocket(live) -> None:
    """Answer first, then candidates, all with the ids of the session (rtcd.md 3.1)."""
    socket = await live.connect()
    session_id = "s1".ljust(26, "x")
    socket.send(join(session_id))

    def to_server(kind: str, sdp: str) -> None:
        data = json.dumps({"type": kind, "sdp": sdp}).encode()
        socket.send(Rtc(RtcMessage(RtcType.SDP, session_id, data)))

    media = CallMedia(
        own_session_id=session_id,
        send_description=to_server,
        emit=lambda _: None,
        connect_timeout_s=25,
    )
    running = asyncio.create_task(media.run())
    try:
        await media.offer()
        answer, candidate = await socket.receive(), await socket.receive()
        assert (answer.message.type, candidate.message.type) == (RtcType.SDP, RtcType.ICE)
        for message in (answer.message, candidate.message):
            ids = (message.group_id, message.call_id, message.user_id, message.session_id)
            assert ids == ("plugin", "call", "user", session_id)
        init = json.loads(candidate.message.data)
        assert init["type"] == "candidate"
        assert init["candidate"]["candidate"].startswith("candidate:")
        assert (init["candidate"]["sdpMid"], init["candidate"]["sdpMLineIndex"]) == ("", 0)
        media.description_received(*calls_dc.read_sdp_json(answer.message.data))
        async with asyncio.timeout(25):
            await media.ready.wait()
        socket.send(Leave(session_id))
        while await socket.receive() != Close(session_id):
            continue
    finally:
        running.cancel()
        await asyncio.wait([running])
        await media.close()
