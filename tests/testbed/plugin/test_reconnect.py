"""A session outlives its WebSocket by 10 s (calls-plugin.md 1.5, 2)."""

from __future__ import annotations

import asyncio

import pytest

from sfu.messages import Leave, Reconnect, Rtc, RtcMessage, RtcType

pytestmark = pytest.mark.looptime


async def test_a_session_without_its_socket_is_gone_after_10_s_and_not_before(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    standin.sfu.taken()
    await bob.socket.drop()
    await asyncio.sleep(9.9)
    assert await alice.heard() == []
    assert standin.sfu.taken() == []
    await asyncio.sleep(0.2)
    assert (await alice.heard()).names == ["user_left"]
    assert standin.sfu.taken() == [Leave(bob.connection_id)]


async def test_a_connection_that_never_joined_leaves_nothing(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.connect("bob")
    await bob.socket.drop()
    await asyncio.sleep(11)
    assert await alice.heard() == []


async def test_a_reconnect_keeps_the_session_under_its_first_id_without_any_answer(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    standin.sfu.taken()
    await bob.socket.drop()
    again = await standin.connect("bob")
    assert again.connection_id != bob.connection_id
    assert await again.reconnect(bob.connection_id, bob.connection_id) == []
    await asyncio.sleep(60)
    assert await alice.heard() == []
    await again.act("unmute")
    assert (await alice.heard()).only("user_unmuted").data["session_id"] == bob.connection_id
    unmute = Rtc(RtcMessage(RtcType.UNMUTE, bob.connection_id))
    assert standin.sfu.taken() == [Reconnect(bob.connection_id), unmute]


async def test_a_reconnect_may_go_out_before_the_hello_is_read(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    await bob.socket.drop()
    socket = standin.open(standin.bearer("bob"))
    data = {
        "channelID": standin.channel_id,
        "originalConnID": bob.connection_id,
        "prevConnID": bob.connection_id,
    }
    socket.send("custom_com.mattermost.calls_reconnect", data)
    assert (await socket.frame())["event"] == "hello"
    await asyncio.sleep(60)
    assert await alice.heard() == []


async def test_signals_of_a_session_follow_it_to_its_new_connection(standin) -> None:
    await standin.joined("alice")
    bob = await standin.joined("bob")
    await bob.socket.drop()
    message = Rtc(RtcMessage(RtcType.SDP, bob.connection_id, b"lost"))
    await standin.sfu.say(message)  # what comes in the gap is lost (trap 12)
    again = await standin.connect("bob")
    await again.reconnect(bob.connection_id, bob.connection_id)
    await standin.sfu.say(Rtc(RtcMessage(RtcType.SDP, bob.connection_id, b"kept")))
    [signal] = await again.heard()
    assert signal.data == {"data": "kept", "connID": bob.connection_id}
    assert signal.broadcast["connection_id"] == again.connection_id


async def test_a_second_loss_is_mended_with_the_latest_connection(standin) -> None:
    alice, first = await standin.joined("alice"), await standin.joined("bob")
    await first.socket.drop()
    second = await standin.connect("bob")
    await second.reconnect(first.connection_id, first.connection_id)
    await second.socket.drop()
    third = await standin.connect("bob")
    await third.reconnect(first.connection_id, second.connection_id)
    await asyncio.sleep(11)
    await third.act("unmute")
    assert "user_left" not in (await alice.heard()).names
    assert len((await standin.call())["sessions"]) == 2


async def test_the_second_loss_has_its_own_10_s(standin) -> None:
    alice, first = await standin.joined("alice"), await standin.joined("bob")
    await first.socket.drop()
    await asyncio.sleep(8)
    second = await standin.connect("bob")
    await second.reconnect(first.connection_id, first.connection_id)
    await second.socket.drop()
    await asyncio.sleep(8)
    assert "user_left" not in (await alice.heard()).names
    await asyncio.sleep(3)
    assert (await alice.heard()).names == ["user_left"]


@pytest.mark.parametrize(
    "change",
    [
        {"channelID": "x" * 26},
        {"originalConnID": "x" * 26},
        {"prevConnID": "x" * 26},
        {"channelID": None},
        {"originalConnID": None},
        {"prevConnID": None},
        {"originalConnID": ["x"]},
    ],
)
async def test_a_reconnect_that_names_something_else_is_refused_in_silence(
    standin, change: dict[str, object]
) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    await bob.socket.drop()
    again = await standin.connect("bob")
    data = {
        "channelID": standin.channel_id,
        "originalConnID": bob.connection_id,
        "prevConnID": bob.connection_id,
    }
    assert await again.act("reconnect", data | change) == []
    assert await again.act("unmute") == []
    await asyncio.sleep(11)
    assert (await alice.heard()).names == ["user_left"]


async def test_another_user_cannot_take_a_session_over(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    await bob.socket.drop()
    carol = await standin.connect("carol")
    await carol.reconnect(bob.connection_id, bob.connection_id)
    await asyncio.sleep(11)
    assert (await alice.heard()).names == ["user_left"]


async def test_a_reconnect_that_comes_too_late_is_refused_in_silence(standin) -> None:
    await standin.joined("alice")
    bob = await standin.joined("bob")
    await bob.socket.drop()
    await asyncio.sleep(10.1)
    again = await standin.connect("bob")
    assert await again.reconnect(bob.connection_id, bob.connection_id) == []
    assert await again.act("unmute") == []
    assert len((await standin.call())["sessions"]) == 1


async def test_a_reconnect_is_not_taken_twice(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await bob.socket.drop()
    again, twice = await standin.connect("bob"), await standin.connect("bob")
    await again.reconnect(bob.connection_id, bob.connection_id)
    await twice.reconnect(bob.connection_id, bob.connection_id)
    await alice.heard()
    await twice.act("unmute")
    assert await alice.heard() == []
    await again.act("unmute")
    assert (await alice.heard()).names == ["user_unmuted"]


async def test_a_repeated_reconnect_changes_nothing(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    assert await bob.reconnect(bob.connection_id, bob.connection_id) == []  # nothing was lost
    await bob.socket.drop()
    again = await standin.connect("bob")
    await again.reconnect(bob.connection_id, bob.connection_id)
    assert await again.reconnect(bob.connection_id, again.connection_id) == []
    await alice.heard()
    await again.act("unmute")
    assert (await alice.heard()).only("user_unmuted").data["session_id"] == bob.connection_id


async def test_the_state_after_a_reconnect_is_there_for_the_asking(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await bob.socket.drop()
    await alice.act("unmute")
    again = await standin.connect("bob")
    await again.reconnect(bob.connection_id, bob.connection_id)
    state = (await again.act("call_state", {"channelID": standin.channel_id})).state
    unmuted = {s["session_id"]: s["unmuted"] for s in state["sessions"]}
    assert unmuted == {alice.connection_id: True, bob.connection_id: False}


async def test_the_message_budget_of_a_session_outlives_its_connection(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    for _ in range(100):
        await bob.act("raise_hand")
    await bob.socket.drop()
    again = await standin.connect("bob")
    await again.reconnect(bob.connection_id, bob.connection_id)
    await alice.heard()
    await again.act("raise_hand")
    assert await alice.heard() == []


async def test_a_started_job_comes_back_by_reconnect_only(standin) -> None:
    alice = await standin.joined("alice")
    await standin.record()
    job_id = await standin.job_id("recording")
    bot = await standin.joined("calls", job_id)
    await standin.report(job_id, JobType="recording", Status="started")
    await bot.socket.drop()
    again = await standin.connect("calls")
    [error] = await again.join(job_id)
    assert error.data["data"] == "job not in progress or already started"
    await again.reconnect(bot.connection_id, bot.connection_id)
    await asyncio.sleep(11)
    await alice.heard()
    assert (await standin.call())["jobs"]["recording"]["end_at"] == 0


async def test_a_cut_asked_for_by_a_test_is_a_loss(standin) -> None:
    alice, bob = await standin.joined("alice"), await standin.joined("bob")
    await alice.heard()
    response = await standin.request("POST", f"/testbed/cut/{bob.connection_id}", who=None)
    assert response.json() == {"cut": True}
    await bob.socket.closed.wait()
    await asyncio.sleep(9)
    assert await alice.heard() == []
    await asyncio.sleep(2)
    assert (await alice.heard()).names == ["user_left"]
    response = await standin.request("POST", f"/testbed/cut/{bob.connection_id}", who=None)
    assert response.json() == {"cut": False}
