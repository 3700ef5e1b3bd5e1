"""The control plane: every HTTP route, the WebSocket, and what a session's life looks like from there.

rtcd.md 1.4, 1.5, 2 and the traps 2 to 7.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import msgpack
import pytest

from callclient.media import CallMedia
from foundation.clock import ManualClock
from rtc import calls_dc
from sfu.media_port import SessionConfig
from sfu.messages import (
    Close,
    Hello,
    Join,
    Leave,
    Message,
    Reconnect,
    Rtc,
    RtcMessage,
    RtcType,
    Vad,
)

KEY = "k" * 32
DEEP = b'{"candidate":' + b"[" * 20_000 + b"]" * 20_000 + b"}"


def join(session_id: str = "s1", call_id: str = "call", **changes: Any) -> Join:
    return Join(call_id, "user", session_id, "channel", **changes)


def mute(session_id: str) -> Rtc:
    return Rtc(RtcMessage(RtcType.MUTE, session_id))


def rtc(number: int) -> Rtc:
    return Rtc(RtcMessage(RtcType.ICE, "s1", str(number).encode(), "plugin", "user", "call"))


# HTTP


async def test_the_version_has_six_texts_and_needs_no_authentication(plane) -> None:
    response = await plane.http.get("/version")
    assert response.status_code == 200
    document = response.json()
    assert set(document) == {
        *("buildDate", "buildVersion", "buildHash", "goVersion", "goOS", "goArch"),
    }
    assert document["goOS"] == "linux"
    assert document["goVersion"]
    assert document["goArch"]


async def test_the_version_is_one_that_the_plugins_check_understands(plane) -> None:
    """Trap 12: else the plugin refuses the host or turns the signaling lock off."""
    version = (await plane.http.get("/version")).json()["buildVersion"]
    match = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", version)
    assert match or version.startswith("dev")
    if match:
        assert tuple(int(part) for part in match.groups()[:2]) >= (0, 16)


@pytest.mark.looptime
async def test_the_load_is_measured_once_a_second_and_needs_no_authentication(
    start_plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Load:
        samples = 0

        def sample(self) -> float:
            self.samples += 1
            return 0.125 * (self.samples - 1)

    monkeypatch.setattr("sfu.control.SystemLoad", Load)
    plane = await start_plane()
    seen = []
    async with plane.app.router.lifespan_context(plane.app):
        await asyncio.sleep(0.5)
        for _ in range(3):
            response = await plane.http.get("/system")
            assert response.status_code == 200
            seen.append(response.json())
            await asyncio.sleep(1)
    assert seen == [{"cpu_load": 0.0}, {"cpu_load": 0.125}, {"cpu_load": 0.25}]


NOT_THERE = (
    *(("POST", "/version"), ("HEAD", "/version"), ("POST", "/system"), ("GET", "/register")),
    *(("PUT", "/register"), ("GET", "/unregister"), ("DELETE", "/unregister"), ("GET", "/login")),
    *(("POST", "/calls/call/sessions"), ("DELETE", "/calls/call/sessions/s1"), ("POST", "/ws")),
    *(("GET", "/"), ("GET", "/calls"), ("GET", "/calls/call"), ("GET", "/version/")),
    *(("GET", "/docs"), ("GET", "/redoc"), ("GET", "/openapi.json"), ("GET", "/debug/pprof/")),
)


@pytest.mark.parametrize(("method", "path"), NOT_THERE)
async def test_an_unknown_path_and_a_wrong_method_are_404(plane, method: str, path: str) -> None:
    response = await plane.http.request(method, path, headers=plane.basic())
    assert response.status_code == 404
    if method != "HEAD":
        assert response.text.strip() == "404 page not found"


async def test_a_client_is_registered_logs_in_works_and_is_gone(start_plane) -> None:
    plane = await start_plane(allow_self_registration=True)
    body = {"clientID": "new", "authKey": KEY}
    registered = await plane.http.post("/register", json=body)
    assert (registered.status_code, registered.json()) == (201, {"clientID": "new", "code": "201"})
    assert registered.text.endswith("\n")
    logged_in = await plane.http.post("/login", json=body)
    assert (logged_in.status_code, logged_in.json()["code"]) == (200, "200")
    bearer = {"Authorization": f"Bearer {logged_in.json()['bearerToken']}"}
    assert (await plane.http.get("/calls/c/sessions", headers=bearer)).status_code == 404
    gone = await plane.http.post("/unregister", json={"clientID": "new"}, headers=bearer)
    assert (gone.status_code, gone.json()) == (200, {"code": "200"})
    assert (await plane.http.get("/calls/c/sessions", headers=bearer)).status_code == 401


async def test_without_self_registration_a_registration_needs_a_client_or_the_admin(plane) -> None:
    def body(name: str) -> dict[str, str]:
        return {"clientID": name, "authKey": KEY}

    refused = await plane.http.post("/register", json=body("a"))
    assert (refused.status_code, refused.json()) == (
        *(401, {"error": "authentication failed: invalid auth header", "code": "401"}),
    )
    for name, headers in (("b", plane.admin()), ("c", plane.basic())):
        response = await plane.http.post("/register", json=body(name), headers=headers)
        assert response.status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/register", {"clientID": "n", "authKey": "k" * 31}, 400, "key not long enough"),
        ("/register", {"clientID": "plugin", "authKey": KEY}, 400, "already registered"),
        ("/register", {"authKey": KEY}, 400, "error: empty key"),
        ("/login", {"clientID": "plugin", "authKey": "x" * 32}, 400, "authentication failed"),
        ("/login", {"clientID": "nobody", "authKey": KEY}, 400, "error: not found"),
        ("/unregister", {"clientID": ""}, 400, "client id should not be empty"),
        ("/unregister", {"clientID": "other"}, 403, "client id not valid"),
    ],
)
async def test_a_refusal_has_a_reason_and_its_status_twice(
    plane, path: str, body: dict[str, str], status: int, text: str
) -> None:
    response = await plane.http.post(path, json=body, headers=plane.basic())
    assert (response.status_code, response.json()["code"]) == (status, str(status))
    assert response.json()["error"].endswith(text)


BODIES = {
    "nothing": b"",
    "cut off": b'{"clientID": "new"',
    "list": b'["clientID"]',
    "text": b'"clientID"',
    "null": b"null",
    "number in it": b'{"clientID": 1}',
    "null in it": b'{"clientID": null}',
    "object in it": b'{"clientID": "new", "more": {}}',
    "not UTF-8": b'{"clientID": "\xff"}',
    "deep nesting": b'{"clientID": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "surrogate in the id": b'{"clientID": "\\ud800", "authKey": "' + b"k" * 32 + b'"}',
    "surrogate in the key": b'{"clientID": "plugin", "authKey": "\\udfff' + b"k" * 32 + b'"}',
    "surrogate in a name": b'{"clientID": "plugin", "\\ud800": ""}',
}


@pytest.mark.parametrize("path", ["/register", "/unregister", "/login"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_is_no_object_of_texts_is_400(plane, path: str, body: bytes) -> None:
    response = await plane.http.post(path, content=body, headers=plane.admin())
    assert response.status_code == 400
    assert response.json() == {
        "error": "request body should be a JSON object of texts",
        "code": "400",
    }


async def test_a_surrogate_pair_is_a_character_as_any_other(start_plane) -> None:
    plane = await start_plane(allow_self_registration=True)
    body = b'{"clientID": "\\ud83d\\ude00", "authKey": "' + b"k" * 32 + b'"}'
    response = await plane.http.post("/register", content=body)
    assert (response.status_code, response.json()["clientID"]) == (201, "\N{GRINNING FACE}")


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


async def test_a_wrong_key_and_an_unknown_client_are_refused_and_register_nobody(
    start_plane,
) -> None:
    plane = await start_plane(allow_self_registration=True)
    for headers in (plane.basic("plugin", "x" * 32), plane.basic("unknown")):
        response = await plane.http.get("/calls/call/sessions", headers=headers)
        assert response.status_code == 401
    login = await plane.http.post("/login", json={"clientID": "unknown", "authKey": KEY})
    assert login.status_code == 400


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


# the WebSocket: who gets in


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


# the WebSocket: frames


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("leave", id="text"),
        pytest.param("", id="empty text"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1\xff", id="no MessagePack"),
        pytest.param(b"\xa4join\x81\x90\xc0", id="array as a key"),
        pytest.param(b"\xa3rtc" + b"\x91" * 5000, id="deep nesting"),
        pytest.param(msgpack.packb("future") + msgpack.packb({"a": b"bytes"}), id="unknown type"),
        pytest.param(msgpack.packb("") + b"\xc0", id="empty type"),
        pytest.param(msgpack.packb("leave") + msgpack.packb({None: None}), id="nil pair"),
        pytest.param(msgpack.packb("reconnect") + b"\xc0", id="nil"),
        pytest.param(bytes((1 << 20) + 1), id="more than 1 MiB"),
        pytest.param(Hello("c", "n"), id="hello"),
        pytest.param(Vad(RtcMessage(RtcType.VOICE_ON, "s1")), id="vad"),
        pytest.param(Close("s1"), id="close"),
    ],
)
async def test_a_frame_that_is_no_message_for_the_server_is_ignored_and_ends_nothing(
    plane, frame: Message | bytes | str
) -> None:
    socket = await plane.connect()
    socket.send(join("s1"))
    for _ in range(10):
        socket.send(frame)
    socket.send(mute("s1"))
    assert await socket.settle() == []
    assert plane.media.handled == [mute("s1").message]
    assert plane.media.session("s1") is not None


# sessions


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
        connect_timeout_s=5,
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
        async with asyncio.timeout(5):
            await media.ready.wait()
        socket.send(Leave(session_id))
        assert Close(session_id) in await socket.settle()
    finally:
        running.cancel()
        await asyncio.wait([running])
        await media.close()


# connections that come and go


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
    monkeypatch.setattr("sfu.control._SEND_CAPACITY", 10)
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
