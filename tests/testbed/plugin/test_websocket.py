"""The Mattermost WebSocket: who gets in, what frames look like, what closes it (calls-plugin.md 1.1–1.4)."""

from __future__ import annotations

import asyncio
import json
import re

import msgpack
import pytest

from sfu.messages import RtcMessage, RtcType, Vad

pytestmark = pytest.mark.looptime


async def test_a_bearer_token_is_greeted_with_the_connection_and_its_user(standin) -> None:
    frame = await standin.open(standin.bearer("alice")).frame()
    assert frame["event"] == "hello"
    assert re.fullmatch("[a-z0-9]{26}", frame["data"]["connection_id"])
    assert frame["data"]["server_version"].startswith("11.")
    assert frame["seq"] == 0
    assert frame["broadcast"] == {
        "omit_users": None,
        "user_id": standin.user_id("alice"),
        "channel_id": "",
        "team_id": "",
        "connection_id": "",
        "omit_connection_id": "",
    }


async def test_the_scheme_of_the_header_may_have_any_case(standin) -> None:
    socket = standin.open({"Authorization": f"BEARER {standin.token('calls')}"})
    assert (await socket.frame())["broadcast"]["user_id"] == standin.user_id("calls")


async def test_a_challenge_is_answered_by_the_hello_and_then_by_its_reply(standin) -> None:
    socket = standin.open()
    seq = socket.send("authentication_challenge", {"token": standin.token("bob")})
    hello, reply = await socket.frame(), await socket.frame()
    assert (hello["event"], hello["seq"]) == ("hello", 0)
    assert hello["broadcast"]["user_id"] == standin.user_id("bob")
    assert reply == {"status": "OK", "seq_reply": seq}


async def test_what_comes_before_the_challenge_is_ignored(standin) -> None:
    socket = standin.open()
    socket.send("ping")
    socket.send("custom_com.mattermost.calls_join", {"channelID": standin.channel_id})
    seq = socket.send("authentication_challenge", {"token": standin.token("bob")})
    assert (await socket.frame())["event"] == "hello"
    assert await socket.frame() == {"status": "OK", "seq_reply": seq}
    assert (await standin.call())["active"] is False


@pytest.mark.parametrize(
    "token", ["x" * 26, "", "é", pytest.param("\ud800", id="surrogate"), None, 3]
)
async def test_a_wrong_challenge_closes_the_socket_at_once(standin, token: object) -> None:
    socket = standin.open()
    began = asyncio.get_running_loop().time()
    socket.send("authentication_challenge", {"token": token})
    with pytest.raises(ConnectionError):
        await socket.frame()
    assert asyncio.get_running_loop().time() == began


@pytest.mark.parametrize("header", ["Bearer " + "x" * 26, "Bearer ", "Basic eDp5", "Bearer \xe9"])
async def test_a_bad_token_still_upgrades_and_is_dropped_without_a_hello_after_5_s(
    standin, header: str
) -> None:
    socket = standin.open({"Authorization": header})
    await socket.opened.wait()
    began = asyncio.get_running_loop().time()
    with pytest.raises(ConnectionError):
        await socket.frame()
    assert asyncio.get_running_loop().time() - began == pytest.approx(5.0)


async def test_a_challenge_mends_a_bad_header_in_time(standin) -> None:
    socket = standin.open({"Authorization": "Bearer wrong"})
    await asyncio.sleep(4.9)
    socket.send("authentication_challenge", {"token": standin.token("bob")})
    assert (await socket.frame())["event"] == "hello"
    await socket.frame()
    await asyncio.sleep(100)
    assert not socket.closed.is_set()


async def test_a_challenge_on_an_authenticated_socket_is_ignored(standin) -> None:
    client = await standin.connect("alice")
    client.socket.send("authentication_challenge", {"token": "wrong"})
    client.socket.send("authentication_challenge", {"token": standin.token("bob")})
    assert await client.heard() == []


async def test_a_revoked_token_counts_no_more(standin) -> None:
    await standin.request("POST", f"/testbed/revoke/{standin.user_id('calls')}", who=None)
    socket = standin.open(standin.bearer("calls"))
    with pytest.raises(ConnectionError):
        await socket.frame()


async def test_a_ping_tells_the_servers_time(standin) -> None:
    client = await standin.connect("alice")
    seq = client.socket.send("ping")
    reply = await client.socket.frame()
    server_time = reply["data"].pop("server_time")
    assert reply == {
        "status": "OK",
        "data": {"text": "pong", "version": "11.0.0", "node_id": ""},
        "seq_reply": seq,
    }
    await asyncio.sleep(2.5)
    client.socket.send("ping")
    later = (await client.socket.frame())["data"]["server_time"]
    assert later - server_time == pytest.approx(2500, abs=1)


async def test_a_core_action_needs_a_positive_seq(standin) -> None:
    client = await standin.connect("alice")
    for seq in (0, -1, None, "1"):
        client.socket.send_text(json.dumps({"action": "ping", "seq": seq, "data": None}))
        reply = await client.socket.frame()
        assert reply["status"] == "FAIL", seq
        assert set(reply["error"]) == {"id", "message"}


async def test_an_unknown_core_action_fails_with_its_seq(standin) -> None:
    client = await standin.connect("alice")
    seq = client.socket.send("user_typing", {})
    reply = await client.socket.frame()
    assert (reply["status"], reply["seq_reply"]) == ("FAIL", seq)


async def test_an_unknown_calls_action_gets_no_reply_of_any_kind(standin) -> None:
    alice = await standin.joined("alice")
    for name in ("ping", "voice_on", "nonsense", ""):
        assert await alice.act(name, {"x": 1}) == [], name
        assert await alice.act(name) == [], name


async def test_the_seq_of_a_calls_action_is_not_checked(standin) -> None:
    client = await standin.connect("alice")
    frame = {
        "action": "custom_com.mattermost.calls_join",
        "seq": -5,
        "data": {"channelID": standin.channel_id},
    }
    client.socket.send_text(json.dumps(frame))
    assert "join" in (await client.heard()).names


async def test_events_are_numbered_from_0_and_replies_are_not_numbered(standin) -> None:
    alice = await standin.connect("alice")
    events = await alice.join() + await alice.act("unmute") + await alice.act("mute")
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    bob = await standin.connect("bob")
    assert (await bob.join())[0].seq == 1
    alice.socket.send("ping")
    await alice.socket.frame()  # bob joined
    assert "seq" not in await alice.socket.frame()


async def test_a_binary_frame_is_one_msgpack_map(standin) -> None:
    client = await standin.connect("alice")
    assert (
        "join" in (await client.act("join", {"channelID": standin.channel_id}, binary=True)).names
    )


async def test_a_text_frame_that_says_nothing_is_passed_over(standin) -> None:
    client = await standin.connect("alice")
    for frame in ("", "{", "[]", "7", "null", '{"seq":1}', '{"action":3,"seq":1}'):
        client.socket.send_text(frame)
        assert await client.heard() == [], frame


async def test_a_binary_frame_that_says_nothing_is_passed_over(standin) -> None:
    client = await standin.connect("alice")
    for frame in (b"", b"\xc1", b"\x81", msgpack.packb([1]), b"\x80\x80", b"\x81\x80\x01"):
        client.socket.send_bytes(frame)
        assert await client.heard() == [], frame


def _padded(size: int) -> str:
    empty = json.dumps({"action": "ping", "seq": 1, "data": ""})
    return json.dumps({"action": "ping", "seq": 1, "data": "x" * (size - len(empty))})


async def test_a_frame_of_8192_bytes_passes(standin) -> None:
    client = await standin.connect("alice")
    client.socket.send_text(_padded(8192))
    assert (await client.socket.frame())["status"] == "OK"


@pytest.mark.parametrize("binary", [False, True])
async def test_a_larger_frame_closes_the_connection(standin, binary: bool) -> None:
    client = await standin.joined("alice")
    if binary:
        client.socket.send_bytes(b"\xc6" + bytes(8192))
    else:
        client.socket.send_text(_padded(8193))
    with pytest.raises(ConnectionError):
        await client.socket.frame()


async def test_the_limit_counts_bytes_and_not_characters(standin) -> None:
    client = await standin.connect("alice")
    client.socket.send_text(json.dumps({"action": "x", "data": "é" * 4200}, ensure_ascii=False))
    with pytest.raises(ConnectionError):
        await client.socket.frame()


async def test_a_client_that_does_not_read_is_closed_after_256_waiting_events(standin) -> None:
    alice = await standin.joined("alice")
    slow = await standin.joined("bob")
    await alice.heard()
    slow.socket.hold()
    for _ in range(300):
        await standin.sfu.say(Vad(RtcMessage(RtcType.VOICE_ON, alice.connection_id)))
        assert (await alice.heard()).names == ["user_voice_on"]  # who reads is not hurt
    slow.socket.release()
    for _ in range(257):  # 256 in the queue and one in the writer's hand
        await slow.socket.frame()
    with pytest.raises(ConnectionError):
        await slow.socket.frame()
