"""Offers and answers that are lost, late, doubled or ignored: what the client keeps all the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from callclient.errors import MediaFailed
from sfu.messages import RtcType


@pytest.mark.parametrize("dc_signaling", [False, True])
async def test_an_offer_that_is_lost_costs_its_track_and_nothing_else(
    lobby: Any, tools: Any, dc_signaling: bool
) -> None:
    double = await lobby.double(lost_offers=frozenset({2}), answer_timeout_s=1)
    listener = await lobby.enter(double, dc_signaling=dc_signaling)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    track = await listener.track()
    double.puppet("bob").voice().send(tools.silence)
    double.puppet("carol").voice().send(tools.silence)
    # The original's connection is stuck from then on: nobody new is ever announced.
    await tools.until(lambda: len(listener.book.dropped_changes) == 2)
    assert "stuck" in listener.book.dropped_changes[1]
    await tools.heard(voice, track, b"\x08still there")
    assert listener.tracks == [track]
    assert not listener.running.done()


async def test_answers_that_come_too_late_leave_a_connection_that_still_carries_what_it_had(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double(answer_timeout_s=1)
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    track = await listener.track()
    await tools.until(lambda: voice.receivers)
    listener.hold.add("answer")
    double.puppet("bob").voice().send(tools.silence)
    await tools.until(lambda: listener.book.dropped_changes)
    [late] = listener.held
    await double.handle(listener.session_id, late)
    await tools.heard(voice, track, b"\x08still there")
    assert not listener.running.done()


@pytest.mark.parametrize("dc_signaling", [False, True])
async def test_an_offer_that_comes_twice_is_answered_once(
    lobby: Any, tools: Any, dc_signaling: bool
) -> None:
    double = await lobby.double(repeated_offers=frozenset({1, 2}))
    listener = await lobby.enter(double, dc_signaling=dc_signaling)
    for number, name in enumerate(("alice", "bob", "carol"), start=1):
        voice = double.puppet(name).voice()
        voice.send(tools.silence)
        track = await listener.track(number)
        # A second answer would have been taken for the one to the next offer.
        await tools.heard(voice, track, bytes([0x08, number]))
    assert len(listener.book.answers) == 3
    assert not listener.book.failed_answers


@pytest.mark.parametrize("dc_signaling", [False, True])
async def test_a_crowd_that_speaks_at_once_is_answered_in_order(
    lobby: Any, tools: Any, dc_signaling: bool
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double, dc_signaling=dc_signaling)
    for number in range(30):
        double.puppet(f"speaker{number}").voice().send(tools.silence)
    await tools.until(lambda: len(listener.book.announced) == 30)
    assert len(listener.tracks) == 30
    assert not listener.book.failed_answers


async def test_candidates_may_come_before_the_answer_and_tcp_ones_among_them(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double(candidates_before_answer=True)
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    await tools.heard(voice, await listener.track(), b"\x08connected")


async def test_where_only_tcp_is_announced_media_comes_over_tcp(lobby: Any, tools: Any) -> None:
    double = await lobby.double(announces_udp=False)
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    await tools.heard(voice, await listener.track(), b"\x08connected")


async def test_an_answer_that_the_plugin_would_drop_for_its_size_goes_over_the_channel(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callclient.media.MAX_INFLATED_SDP_BYTES", 6000)
    listener = await _hear_speakers_come_and_go(lobby, tools, 20)
    assert max(len(json.dumps(sdp)) for kind, sdp in listener.sent if kind == "answer") < 6000
    assert 0 < listener.book.answers_over_channel < 20
    assert max(map(len, listener.book.answers)) > 6000


@pytest.mark.parametrize("channel_is", ["on a dead path", "full"])
async def test_an_answer_that_the_channel_would_keep_goes_over_the_websocket_once(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, channel_is: str
) -> None:
    """It would get there when the server has given up, and be taken for the answer to its next offer."""
    double = await lobby.double()
    listener = await lobby.enter(double, dc_signaling=True)
    for number in range(2):
        if number and channel_is == "full":
            monkeypatch.setattr(listener.media, "_channel", _FullChannel())
        elif number:
            monkeypatch.setattr(type(listener.media._transport), "doubtful", True)
        voice = double.puppet(f"speaker{number}").voice()
        voice.send(tools.silence)
        await tools.heard(voice, await listener.track(number + 1), bytes([8, number]))
        monkeypatch.undo()
    assert [kind for kind, _ in listener.sent] == ["offer", "answer"]
    assert listener.book.answers_over_channel == 1
    assert len(listener.book.answers) == 2


class _FullChannel:
    open = True

    def send(self, message: bytes) -> bool:
        return False


@pytest.mark.slow
async def test_the_two_hundred_and_tenth_speaker_is_still_heard_where_no_section_is_reused(
    lobby: Any, tools: Any
) -> None:
    listener = await _hear_speakers_come_and_go(lobby, tools, 210)
    assert max(len(json.dumps(sdp)) for kind, sdp in listener.sent if kind == "answer") < 65_536
    assert max(map(len, listener.book.answers)) > 65_536


async def _hear_speakers_come_and_go(lobby: Any, tools: Any, speakers: int) -> Any:
    double = await lobby.double()
    listener = await lobby.enter(double)
    for number in range(speakers):
        speaker = double.puppet(f"speaker{number}")
        voice = speaker.voice()
        voice.send(tools.silence)
        await tools.until(lambda voice=voice: voice.receivers)
        speaker.leave()
        listener.media.participant_left(speaker.config.session_id)
    assert not listener.book.failed_answers
    return listener


@pytest.mark.slow
async def test_offers_over_the_channel_may_be_larger_than_what_the_plugin_lets_through(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double(queued_tracks=250)
    for number in range(130):
        double.puppet(f"speaker{number}").voice().send(tools.silence)
    listener = await lobby.enter(double, dc_signaling=True)
    await tools.until(lambda: len(listener.book.announced) == 130)
    assert max(map(len, listener.book.offers)) > 65_536


# the client's own offers


async def test_an_offer_that_is_never_answered_fails_the_publication_and_the_next_one_works(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callclient.publishing.ANSWER_TIMEOUT_S", 0.2)
    double = await lobby.double(lost_answers=frozenset({1}))
    alice, bob = await lobby.enter(double, "alice"), await lobby.enter(double, "bob")
    with pytest.raises(MediaFailed, match="no answer to our offer"):
        await alice.publish("audio", "stream")
    voice = await alice.publish("audio", "stream")
    voice.send(tools.silence, rtp_timestamp=0, marker=False)
    assert (await bob.track()).session_id == alice.session_id


async def test_a_publication_that_failed_does_not_stand_in_the_way_of_what_the_sfu_offers_next(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callclient.publishing.ANSWER_TIMEOUT_S", 0.1)
    double = await lobby.double()
    listener = await lobby.enter(double)
    listener.hold.add("offer")
    with pytest.raises(MediaFailed):
        await listener.publish("video", "stream")
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    await tools.heard(voice, await listener.track(), b"\x08here")


async def test_a_publication_into_a_stuck_connection_fails_and_receiving_goes_on(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callclient.publishing.ANSWER_TIMEOUT_S", 0.2)
    double = await lobby.double(lost_offers=frozenset({2}), answer_timeout_s=1)
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    track = await listener.track()
    double.puppet("bob").voice().send(tools.silence)
    await tools.until(lambda: listener.book.dropped_changes)
    with pytest.raises(MediaFailed, match="no answer to our offer"):
        await listener.publish("audio", "stream")
    assert listener.book.ignored_offers == 1
    await tools.heard(voice, track, b"\x08still there")


async def test_a_lost_answer_does_not_cost_others_their_track(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for an answer holds the lock, and a change that does not get it in time is never made."""
    monkeypatch.setattr("callclient.publishing.ANSWER_TIMEOUT_S", 0.4)
    double = await lobby.double(lost_answers=frozenset({1}), lock_timeout_s=3)
    alice = await lobby.enter(double, "alice")
    publishing = asyncio.create_task(alice.publish("audio", "stream"))
    await tools.until(lambda: True in alice.book.lock_replies)
    double.puppet("bob").voice().send(tools.silence)
    with pytest.raises(MediaFailed):
        await publishing
    await tools.until(lambda: alice.tracks)
    assert alice.book.dropped_changes == []


async def test_an_offer_that_the_plugin_would_drop_for_its_size_goes_over_the_channel(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sections of everybody who ever spoke are in it."""
    listener = await _hear_speakers_come_and_go(lobby, tools, 20)
    monkeypatch.setattr("callclient.media.MAX_INFLATED_SDP_BYTES", 6000)
    voice = await listener.publish("audio", "stream")
    assert [kind for kind, _ in listener.sent].count("offer") == 1  # the first of all
    assert len(listener.book.client_offers[-1]) > 6000
    voice.send(tools.silence, rtp_timestamp=0, marker=False)
    bob = await lobby.enter(listener.server, "bob")
    assert (await bob.track()).session_id == listener.session_id


async def test_a_screen_that_was_announced_before_it_was_offered_is_taken(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    alice, bob = await lobby.enter(double, "alice"), await lobby.enter(double, "bob")
    await alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    screen = await alice.publish("video", "screen")
    screen.send(b"\x10\x00\x00\x00", rtp_timestamp=0, marker=True)
    assert (await bob.track()).source.value == "screen"
    assert alice.book.rejected_video == 0
