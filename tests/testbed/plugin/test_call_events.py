"""Sessions come and go, actions change the call, and who hears of it (calls-plugin.md 2, 3)."""

from __future__ import annotations

import asyncio
import json
import re
import zlib

import pytest

from rtc import calls_dc
from sfu.messages import Close, Join, Leave, Rtc, RtcMessage, RtcType, Vad

pytestmark = pytest.mark.looptime


# joining and leaving


async def test_the_first_join_starts_the_call_with_its_user_as_host(standin) -> None:
    alice = await standin.connect("alice")
    before_ms = standin.now_ms()
    events = await alice.join()
    assert events.names == ["call_start", "join", "user_joined", "call_state"]
    start = events.only("call_start").data
    assert set(start) == {
        "id",
        "channelID",
        "start_at",
        "thread_id",
        "post_id",
        "owner_id",
        "host_id",
    }
    assert (start["owner_id"], start["host_id"]) == (alice.user_id, alice.user_id)
    assert start["channelID"] == standin.channel_id
    assert start["id"] != standin.channel_id  # the call has an id of its own (trap 1)
    assert before_ms <= start["start_at"] <= standin.now_ms()
    joined = events.only("join")
    assert joined.data == {"connID": alice.connection_id}
    assert joined.broadcast["connection_id"] == alice.connection_id


async def test_the_call_state_is_a_string_of_json_with_everybody_in_it(standin) -> None:
    alice = await standin.joined("alice")
    bob = await standin.connect("bob")
    await alice.act("unmute")
    event = (await bob.join()).only("call_state")
    assert isinstance(event.data["call"], str)
    assert event.data["channel_id"] == standin.channel_id
    call = json.loads(event.data["call"])
    post_id = (await standin.call())["post_id"]
    sessions = {entry.pop("session_id"): entry for entry in call.pop("sessions")}
    assert call == {
        "id": (await standin.call())["call_id"],
        "start_at": call["start_at"],
        "thread_id": post_id,
        "post_id": post_id,
        "screen_sharing_session_id": "",
        "owner_id": alice.user_id,
        "host_id": alice.user_id,
        "dismissed_notification": {},
    }
    rest = {"raised_hand": 0, "video": False}
    assert sessions == {
        alice.connection_id: {"user_id": alice.user_id, "unmuted": True} | rest,
        bob.connection_id: {"user_id": bob.user_id, "unmuted": False} | rest,
    }


async def test_the_state_goes_to_all_connections_of_who_joined_and_to_nobody_else(standin) -> None:
    alice = await standin.joined("alice")
    second, joining = await standin.connect("bob"), await standin.connect("bob")
    await joining.join()
    await alice.heard()
    assert (await second.heard()).only("call_state").broadcast["user_id"] == second.user_id
    assert "call_state" not in (await alice.heard()).names


async def test_on_request_the_state_goes_to_the_one_connection(standin) -> None:
    alice = await standin.joined("alice")
    other = await standin.connect("alice")
    events = await alice.act("call_state", {"channelID": standin.channel_id})
    assert events.names == ["call_state"]
    assert events[0].broadcast["connection_id"] == alice.connection_id
    assert await other.heard() == []


async def test_the_state_is_told_to_who_has_not_joined(standin) -> None:
    await standin.joined("alice")
    visitor = await standin.connect("bob")
    events = await visitor.act("call_state", {"channelID": standin.channel_id})
    assert [s["user_id"] for s in events.state["sessions"]] == [standin.user_id("alice")]


async def test_without_a_call_or_for_another_channel_there_is_no_state(standin) -> None:
    alice = await standin.connect("alice")
    assert await alice.act("call_state", {"channelID": standin.channel_id}) == []
    await alice.join()
    assert await alice.act("call_state", {"channelID": "x" * 26}) == []
    assert await alice.act("call_state") == []


async def test_the_sfu_is_told_of_a_join_and_of_what_its_peer_can_do(standin) -> None:
    alice = await standin.connect("alice")
    await alice.join(av1Support=True, dcSignaling=True)
    call_id = (await standin.call())["call_id"]
    assert standin.sfu.taken() == [
        Join(
            call_id=call_id,
            user_id=alice.user_id,
            session_id=alice.connection_id,
            channel_id=standin.channel_id,
            av1_support=True,
            dc_signaling=True,
        )
    ]
    bob = await standin.joined("bob")
    [join] = standin.sfu.taken()
    assert (join.session_id, join.av1_support, join.dc_signaling) == (
        bob.connection_id,
        False,
        False,
    )


async def test_a_join_without_a_channel_is_not_answered(standin) -> None:
    alice = await standin.connect("alice")
    for data in (None, {}, {"channelID": ""}, {"channelID": 7}, "text"):
        assert await alice.act("join", data) == [], data
    assert standin.sfu.sent == []


async def test_another_channel_is_forbidden(standin) -> None:
    alice = await standin.connect("alice")
    [error] = await alice.act("join", {"channelID": "x" * 26})
    assert error.name == "error"
    assert error.data == {"data": "forbidden", "connID": alice.connection_id}
    assert error.broadcast["connection_id"] == alice.connection_id
    assert standin.sfu.sent == []


async def test_a_session_joins_once(standin) -> None:
    alice = await standin.joined("alice")
    [error] = await alice.join()
    assert error.data["data"] == "session is already connected"


async def test_a_user_with_two_connections_has_two_sessions(standin) -> None:
    alice = await standin.joined("alice")
    await standin.joined("alice")
    sessions = (await standin.call())["sessions"]
    assert [s["user_id"] for s in sessions] == [alice.user_id] * 2


async def test_the_refusal_that_a_test_asks_for_is_what_a_join_gets(standin) -> None:
    await standin.fault(refuse_join="user cannot join because of limits")
    alice = await standin.connect("alice")
    [error] = await alice.join()
    assert error.data["data"] == "user cannot join because of limits"


async def test_a_leave_is_told_to_the_channel_and_to_the_sfu(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    watcher = await standin.connect("carol")
    await alice.heard()
    standin.sfu.taken()
    await bob.act("leave")
    left = (await alice.heard()).only("user_left")
    assert left.data == {
        "user_id": bob.user_id,
        "session_id": bob.connection_id,
        "channelID": standin.channel_id,
    }
    assert (await watcher.heard()).names == ["user_left"]
    assert standin.sfu.taken() == [Leave(bob.connection_id)]


async def test_who_left_may_come_back_on_the_same_connection(standin) -> None:
    await standin.joined("alice")
    bob = await standin.joined("bob")
    await bob.act("leave")
    assert "join" in (await bob.join()).names


async def test_the_last_leave_ends_the_call_without_a_call_end(standin) -> None:
    alice = await standin.joined("alice")
    assert (await alice.act("leave")).names == ["user_left"]
    assert await standin.call() == {"active": False}
    [post] = await standin.posts()
    assert post["props"]["end_at"] >= post["props"]["start_at"]


async def test_the_next_call_is_another_call(standin) -> None:
    alice = await standin.joined("alice")
    first = await standin.call()
    await alice.act("leave")
    bob = await standin.connect("bob")
    events = await bob.join()
    assert events.only("call_start").data["id"] != first["call_id"]
    assert events.only("call_start").data["host_id"] == bob.user_id
    assert len(await standin.posts()) == 2


async def test_actions_before_the_join_and_after_the_leave_do_nothing(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.connect("bob")
    standin.sfu.taken()
    for action in ("unmute", "raise_hand", "leave", "react", "screen_on", "ice"):
        assert await bob.act(action, {"data": "{}"}) == []
    await bob.join()
    await bob.act("leave")
    await alice.heard()
    await bob.act("unmute")
    assert await alice.heard() == []
    assert [type(m) for m in standin.sfu.taken()] == [Join, Leave]


async def test_the_host_role_goes_on_when_the_hosts_last_session_leaves(standin) -> None:
    first, second = await standin.joined("alice"), await standin.joined("alice")
    bob = await standin.joined("bob")
    await first.act("leave")
    assert "call_host_changed" not in (await bob.heard()).names
    await second.act("leave")
    changed = (await bob.heard()).only("call_host_changed").data
    assert changed["hostID"] == bob.user_id
    assert changed["call_id"] == (await standin.call())["call_id"]


async def test_the_host_may_name_another_host(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    path = f"/calls/{standin.channel_id}/host/make"
    body = {"new_host_id": bob.user_id}
    refused = await standin.post(path, body, who="bob")
    assert refused.status_code == 400
    assert (await standin.post(path, body, who="alice")).status_code == 200
    assert (await alice.heard()).only("call_host_changed").data["hostID"] == bob.user_id
    assert (await standin.call())["host_id"] == bob.user_id


@pytest.mark.parametrize("path", ["host/end", "end"])
async def test_a_call_that_the_host_ends_gives_5_s_to_leave(standin, path: str) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    assert (await standin.post(f"/calls/{standin.channel_id}/{path}", who="bob")).status_code == 400
    await alice.heard()
    standin.sfu.taken()
    response = await standin.post(f"/calls/{standin.channel_id}/{path}", who="alice")
    assert standin.result(response) == (200, "success")
    [end] = await alice.heard()
    assert (end.name, end.data) == ("call_end", {"channelID": standin.channel_id})
    await bob.act("leave")
    await asyncio.sleep(4.9)
    assert standin.sfu.taken() == [Leave(bob.connection_id)]
    await asyncio.sleep(0.2)
    assert standin.sfu.taken() == [Leave(alice.connection_id)]
    assert await standin.call() == {"active": False}


async def test_nobody_joins_a_call_that_the_host_ended(standin) -> None:
    await standin.joined("alice")
    bob = await standin.connect("bob")
    await standin.post(f"/calls/{standin.channel_id}/end", who="alice")
    assert (await bob.join()).only("error").data["data"] == "call has ended"
    await asyncio.sleep(5.1)
    assert "join" in (await bob.join()).names


async def test_without_a_call_there_is_nothing_to_end(standin) -> None:
    response = await standin.post(f"/calls/{standin.channel_id}/end", who="alice")
    assert standin.result(response) == (400, "no call ongoing")


async def test_a_session_that_the_sfu_closed_is_gone_and_the_sfu_not_told(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    standin.sfu.taken()
    await standin.sfu.say(Close(bob.connection_id))
    await standin.sfu.say(Close("nobody"))
    assert (await alice.heard()).names == ["user_left"]
    assert standin.sfu.taken() == []


# who gets what


async def test_an_event_of_the_channel_names_it_for_people_and_not_for_the_bot(standin) -> None:
    await standin.joined("alice")
    people, bot = await standin.connect("carol"), await standin.connect("calls")
    await standin.joined("bob")
    told, bots = (await people.heard()).only("user_joined"), (await bot.heard()).only("user_joined")
    assert told.broadcast["channel_id"] == standin.channel_id
    assert told.broadcast["user_id"] == ""
    assert bots.broadcast["channel_id"] == ""
    assert bots.broadcast["user_id"] == standin.user_id("calls")
    assert told.data == bots.data
    assert told.data["channelID"] == standin.channel_id


async def test_an_event_of_the_participants_goes_to_each_of_them_and_to_the_bot_only(
    standin,
) -> None:
    alice = await standin.joined("alice")
    second, bob = await standin.connect("alice"), await standin.joined("bob")
    outsider, bot = await standin.connect("carol"), await standin.connect("calls")
    for client in (alice, second, bob):
        await client.heard()
    await alice.act("unmute")
    assert await outsider.heard() == []
    for client in (second, bob):
        copy = (await client.heard()).only("user_unmuted")
        assert copy.broadcast["channel_id"] == standin.channel_id
        assert copy.broadcast["user_id"] == client.user_id
        assert copy.broadcast["connection_id"] == ""
        assert copy.data["channelID"] == standin.channel_id
    copy = (await bot.heard()).only("user_unmuted")
    assert (copy.broadcast["channel_id"], copy.broadcast["user_id"]) == ("", bot.user_id)
    assert copy.data["channelID"] == standin.channel_id


async def test_a_bot_is_neither_joining_nor_leaving_nor_in_the_state(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    await alice.heard()
    bot = await standin.joined("calls", await standin.job_id("recording"))
    assert not {"user_joined", "call_start"} & set((await alice.heard()).names)
    state = (await alice.act("call_state", {"channelID": standin.channel_id})).state
    assert [s["session_id"] for s in state["sessions"]] == [alice.connection_id]
    await bot.act("leave")
    assert "user_left" not in (await alice.heard()).names


# actions


async def test_mute_and_unmute_reach_everybody_the_state_and_the_sfu(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    standin.sfu.taken()
    await alice.act("unmute")
    await alice.act("mute")
    events = await bob.heard()
    assert events.names == ["user_unmuted", "user_muted"]
    for event in events:
        assert event.data == {
            "userID": alice.user_id,
            "session_id": alice.connection_id,
            "channelID": standin.channel_id,
        }
    assert standin.sfu.taken() == [
        Rtc(RtcMessage(RtcType.UNMUTE, alice.connection_id)),
        Rtc(RtcMessage(RtcType.MUTE, alice.connection_id)),
    ]


async def test_a_shared_screen_is_announced_to_the_sfu_before_anybody_hears_of_it(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    standin.sfu.taken()
    text = '{"screenStreamID":"{1234}"}'
    await alice.act("screen_on", {"data": text})
    assert standin.sfu.taken() == [
        Rtc(RtcMessage(RtcType.SCREEN_ON, alice.connection_id, text.encode()))
    ]
    shared = (await bob.heard()).only("user_screen_on").data
    assert (shared["userID"], shared["session_id"]) == (alice.user_id, alice.connection_id)
    state = (await bob.act("call_state", {"channelID": standin.channel_id})).state
    assert state["screen_sharing_session_id"] == alice.connection_id
    await alice.act("screen_off")
    assert (await bob.heard()).only("user_screen_off").data["session_id"] == alice.connection_id
    assert standin.sfu.taken() == [Rtc(RtcMessage(RtcType.SCREEN_OFF, alice.connection_id))]


async def test_only_one_screen_is_shared_and_only_its_sharer_ends_it(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.act("screen_on", {"data": '{"screenStreamID":"a"}'})
    await bob.heard()
    standin.sfu.taken()
    assert await bob.act("screen_on", {"data": '{"screenStreamID":"b"}'}) == []
    assert await bob.act("screen_off") == []
    assert standin.sfu.taken() == []


async def test_when_the_sharer_leaves_the_screen_goes_off_without_naming_anybody(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    await bob.act("screen_on", {"data": '{"screenStreamID":"a"}'})
    await alice.heard()
    await bob.act("leave")
    events = await alice.heard()
    assert events.names == ["user_screen_off", "user_left"]
    assert events[0].data == {"channelID": standin.channel_id}
    state = (await alice.act("call_state", {"channelID": standin.channel_id})).state
    assert state["screen_sharing_session_id"] == ""
    assert "user_screen_on" in (await alice.act("screen_on", {"data": "{}"})).names


async def test_a_camera_goes_on_and_off(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    standin.sfu.taken()
    text = '{"videoStreamID":"v"}'
    await alice.act("video_on", {"data": text})
    state = (await bob.act("call_state", {"channelID": standin.channel_id})).state
    assert [s["video"] for s in state["sessions"]] == [True, False]
    await alice.act("video_off")
    assert (await bob.heard()).names == ["user_video_off"]
    assert [(m.message.type, m.message.data) for m in standin.sfu.taken()] == [
        (RtcType.VIDEO_ON, text.encode()),
        (RtcType.VIDEO_OFF, b""),
    ]


async def test_a_raised_hand_carries_its_time_and_a_lowered_one_0(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.act("raise_hand")
    raised = (await bob.heard()).only("user_raise_hand").data
    assert raised["raised_hand"] == pytest.approx(standin.now_ms(), abs=1000)
    assert (raised["userID"], raised["session_id"]) == (alice.user_id, alice.connection_id)
    state = (await bob.act("call_state", {"channelID": standin.channel_id})).state
    assert raised["raised_hand"] in [s["raised_hand"] for s in state["sessions"]]
    await alice.act("unraise_hand")
    assert (await bob.heard()).only("user_unraise_hand").data["raised_hand"] == 0


async def test_a_reaction_carries_its_emoji_as_an_object(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    emoji = {"name": "tada", "unified": "1f389", "skin": "", "literal": "🎉"}
    await alice.act("react", {"data": json.dumps(emoji)})
    reaction = (await bob.heard()).only("user_reacted").data
    assert reaction.pop("timestamp") == pytest.approx(standin.now_ms(), abs=1000)
    assert reaction == {
        "user_id": alice.user_id,
        "session_id": alice.connection_id,
        "emoji": emoji,
        "channelID": standin.channel_id,
    }
    assert await alice.act("react", {"data": "{"}) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [(RtcType.VOICE_ON, "user_voice_on"), (RtcType.VOICE_OFF, "user_voice_off")],
)
async def test_voice_activity_of_the_sfu_reaches_the_participants(
    standin, kind: RtcType, name: str
) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await standin.sfu.say(Vad(RtcMessage(kind, alice.connection_id)))
    await standin.sfu.say(Vad(RtcMessage(kind, "nobody")))
    assert (await bob.heard()).only(name).data == {
        "userID": alice.user_id,
        "session_id": alice.connection_id,
        "channelID": standin.channel_id,
    }


# signaling


async def test_an_sdp_is_a_binary_frame_with_msgpack_bin(standin) -> None:
    alice = await standin.joined("alice")
    standin.sfu.taken()
    packed = calls_dc.pack_sdp("answer", "v=0\r\n")
    assert await alice.act("sdp", {"data": packed}, binary=True) == []
    [sent] = standin.sfu.taken()
    assert (sent.message.type, sent.message.session_id) == (RtcType.SDP, alice.connection_id)
    assert json.loads(sent.message.data) == {"type": "answer", "sdp": "v=0\r\n"}


async def test_any_other_sdp_is_dropped_without_a_word(standin) -> None:
    alice = await standin.joined("alice")
    standin.sfu.taken()
    for data in (
        "text",
        None,
        b"not zlib",
        zlib.compress(b"{"),
        zlib.compress(b'{"type":"rollback","sdp":""}'),
        zlib.compress(json.dumps({"type": "offer", "sdp": "x" * 65536}).encode()),
    ):
        assert await alice.act("sdp", {"data": data}, binary=True) == []
        assert standin.sfu.sent == [], data


async def test_an_sdp_in_a_text_frame_is_dropped(standin) -> None:
    alice = await standin.joined("alice")
    standin.sfu.taken()
    assert await alice.act("sdp", {"data": '{"type":"offer","sdp":"v=0"}'}) == []
    assert standin.sfu.sent == []


@pytest.mark.parametrize("binary", [False, True])
async def test_a_candidate_is_a_string_in_either_kind_of_frame(standin, binary: bool) -> None:
    alice = await standin.joined("alice")
    standin.sfu.taken()
    text = '{"candidate":"candidate:1","sdpMid":"0"}'
    await alice.act("ice", {"data": text}, binary=binary)
    assert standin.sfu.taken() == [Rtc(RtcMessage(RtcType.ICE, alice.connection_id, text.encode()))]


async def test_a_signal_goes_to_the_one_connection_as_a_string(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    text = '{"type":"answer","sdp":"v=0"}'
    await standin.sfu.say(Rtc(RtcMessage(RtcType.SDP, bob.connection_id, text.encode())))
    signal = (await bob.heard()).only("signal")
    assert signal.data == {"data": text, "connID": bob.connection_id}
    assert signal.broadcast["connection_id"] == bob.connection_id
    assert await alice.heard() == []


async def test_a_delayed_signal_comes_late_and_in_order(standin) -> None:
    alice = await standin.joined("alice")
    await standin.fault(signal_delay_ms=11_000)
    began = asyncio.get_running_loop().time()
    for text in ("1", "2"):
        await standin.sfu.say(Rtc(RtcMessage(RtcType.SDP, alice.connection_id, text.encode())))
    assert asyncio.get_running_loop().time() - began == pytest.approx(22)
    assert [e.data["data"] for e in await alice.heard()] == ["1", "2"]


# limits


async def test_a_session_sends_100_messages_at_once_and_then_10_a_second(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await bob.heard()

    async def heard_of(count: int) -> int:
        for _ in range(count):
            await alice.act("raise_hand")
        return len(await bob.heard())

    assert await heard_of(120) == 100
    await asyncio.sleep(1)
    assert await heard_of(20) == 10
    await bob.act("raise_hand")  # nobody pays for another's messages
    assert (await alice.heard()).names == ["user_raise_hand"]
    await asyncio.sleep(60)
    assert await heard_of(120) == 100


# captions


async def _recorded(standin):
    """A call of alice and bob with the recorder's bot in it."""
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await standin.record()
    bot = await standin.joined("calls", await standin.job_id("transcribing"))
    for client in (alice, bob, bot):
        await client.heard()
    return alice, bob, bot


async def test_a_caption_of_the_bot_reaches_the_participants(standin) -> None:
    alice, bob, bot = await _recorded(standin)
    data = {"session_id": alice.connection_id, "text": "so the plan", "new_audio_len_ms": 2000}
    [echo] = await bot.act("caption", data)
    [caption] = await bob.heard()
    assert caption.name == echo.name == "caption"
    assert caption.data == {
        "channelID": standin.channel_id,
        "channel_id": standin.channel_id,
        "user_id": alice.user_id,
        "session_id": alice.connection_id,
        "text": "so the plan",
    }
    kept = (await standin.request("GET", "/testbed/captions", who=None)).json()
    assert [(c["text"], c["session_id"]) for c in kept] == [("so the plan", alice.connection_id)]
    assert kept[0]["at_ms"] == pytest.approx(standin.now_ms(), abs=1000)


async def test_a_caption_of_a_user_is_dropped(standin) -> None:
    alice, bob, bot = await _recorded(standin)
    data = {"session_id": alice.connection_id, "text": "x", "new_audio_len_ms": 2000}
    await alice.act("caption", data)
    assert await bob.heard() == []
    assert await bot.heard() == []


async def test_a_caption_of_a_bot_that_has_not_joined_is_dropped(standin) -> None:
    alice, bob, _ = await _recorded(standin)
    stranger = await standin.connect("calls")
    data = {"session_id": alice.connection_id, "text": "x", "new_audio_len_ms": 2000}
    await stranger.act("caption", data)
    assert await bob.heard() == []


async def test_a_caption_with_a_wrong_part_is_dropped(standin) -> None:
    alice, bob, bot = await _recorded(standin)
    good = {"session_id": alice.connection_id, "text": "x", "new_audio_len_ms": 2.5}
    for change in (
        {"session_id": "x" * 26},
        {"session_id": None},
        {"text": None},
        {"text": 1},
        {"new_audio_len_ms": "2000"},
        {"new_audio_len_ms": None},
    ):
        await bot.act("caption", good | change)
        assert await bob.heard() == [], change
    await bot.act("caption", good)
    assert (await bob.heard()).names == ["caption"]


async def test_a_metric_is_told_to_nobody(standin) -> None:
    _, bob, bot = await _recorded(standin)
    assert await bot.act("metric", {"metric_name": "live_captions_window_dropped"}) == []
    assert await bob.heard() == []


async def test_ids_are_26_lower_case_letters_and_digits(standin) -> None:
    alice = await standin.joined("alice")
    call = await standin.call()
    for value in (alice.connection_id, alice.user_id, standin.channel_id, call["post_id"]):
        assert re.fullmatch("[a-z0-9]{26}", value)


async def test_what_a_host_asks_of_somebody_reaches_all_their_connections_and_nobody_else(
    standin,
) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    second = await standin.connect("bob")
    call_id = (await standin.call())["call_id"]
    asked = {"channel_id": standin.channel_id, "session_id": bob.connection_id}
    for action, name, more in (
        ("mute", "host_mute", {}),
        ("screen-off", "host_screen_off", {}),
        ("lower-hand", "host_lower_hand", {"call_id": call_id, "host_id": alice.user_id}),
    ):
        await alice.heard()
        await bob.heard()
        await second.heard()
        path = f"/calls/{standin.channel_id}/host/{action}"
        response = await standin.post(path, {"session_id": bob.connection_id}, who="alice")
        assert standin.result(response) == (200, "success")
        for connection in (bob, second):
            [event] = await connection.heard()
            assert (event.name, event.data) == (name, asked | more)
        assert await alice.heard() == []


async def test_muting_the_others_asks_those_who_are_not_muted(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    carol = await standin.joined("carol")
    for talking in (alice, bob):
        await talking.act("unmute")
    for client in (alice, bob, carol):
        await client.heard()
    path = f"/calls/{standin.channel_id}/host/mute-others"
    assert (await standin.post(path, who="alice")).status_code == 200
    assert (await bob.heard()).names == ["host_mute"]
    assert (await alice.heard()).names == []
    assert (await carol.heard()).names == []


@pytest.mark.parametrize("goes", [False, True])
async def test_who_a_host_removes_has_3_s_to_go(standin, goes: bool) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    standin.sfu.taken()
    path = f"/calls/{standin.channel_id}/host/remove"
    body = {"session_id": bob.connection_id}
    assert (await standin.post(path, body, who="alice")).status_code == 200
    removed = (await alice.heard()).only("host_removed")
    call_id = (await standin.call())["call_id"]
    expected = {"call_id": call_id, "channel_id": standin.channel_id, "user_id": bob.user_id}
    assert removed.data == body | expected | {"channelID": standin.channel_id}
    if goes:
        await bob.act("leave")
    await asyncio.sleep(2.9)
    assert standin.sfu.taken() == ([Leave(bob.connection_id)] if goes else [])
    await asyncio.sleep(0.2)
    assert standin.sfu.taken() == ([] if goes else [Leave(bob.connection_id)])
    assert (await alice.heard()).names == ["user_left"]


@pytest.mark.parametrize("action", ["mute", "screen-off", "lower-hand", "remove"])
async def test_only_a_host_may_and_only_to_who_is_there(standin, action: str) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    path = f"/calls/{standin.channel_id}/host/{action}"
    body = {"session_id": alice.connection_id}
    refused = await standin.post(path, body, who="bob")
    assert standin.result(refused) == (400, "no permissions")
    for nobody in ({"session_id": "x" * 26}, {}):
        refused = await standin.post(path, nobody, who="alice")
        assert standin.result(refused) == (400, "session not found")
    await alice.heard()
    assert await bob.heard() == []


async def test_a_job_that_a_host_removes_is_told_and_is_out_after_3_s(standin) -> None:
    await standin.joined("alice")
    await standin.record()
    job = await standin.joined("calls", await standin.job_id("recording"))
    await job.heard()
    path = f"/calls/{standin.channel_id}/host/remove"
    await standin.post(path, {"session_id": job.connection_id}, who="alice")
    removed = (await job.heard()).only("host_removed")
    assert removed.broadcast["channel_id"] == ""
    assert (removed.data["channelID"], removed.data["session_id"]) == (
        standin.channel_id,
        job.connection_id,
    )
    await asyncio.sleep(3.1)
    assert standin.sfu.taken()[-1] == Leave(job.connection_id)
    assert (await standin.call())["jobs"]["recording"]["end_at"] > 0
