"""How the original announces tracks and takes them away, and what the client makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from callclient.events import TrackEnded
from callclient.receive.tracks import TrackSource


async def test_a_track_belongs_to_whom_its_msid_names_whatever_the_media_map_says(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    alice = double.puppet("alice")
    alice.voice().send(tools.silence)
    track = await listener.track()
    assert track.session_id == alice.config.session_id


@pytest.mark.parametrize("map_after_offer", [False, True])
async def test_offers_over_the_data_channel_are_answered_there(
    lobby: Any, tools: Any, map_after_offer: bool
) -> None:
    double = await lobby.double(map_after_offer=map_after_offer)
    listener = await lobby.enter(double, dc_signaling=True)
    for name in ("alice", "bob"):
        double.puppet(name).voice().send(tools.silence)
    await tools.until(lambda: len(listener.book.announced) == 2)
    assert listener.book.answers_over_channel == 2


@pytest.mark.parametrize("av1_first", ["yes", "no"])
async def test_vp8_is_found_by_name_in_whatever_order_codecs_are_offered(
    lobby: Any, tools: Any, av1_first: str
) -> None:
    double = await lobby.double(offers_av1_first=av1_first)
    listener = await lobby.enter(double)
    screen = double.puppet("alice").screen()
    tools.show(screen, 0, key=True)
    track = await listener.track()
    await tools.until(lambda: screen.receivers)
    tools.show(screen, 1, key=True)
    [frame] = [await anext(aiter(track.frames()))]
    assert frame.keyframe
    offered = next(line for line in listener.book.offers[0].split() if line in ("96", "45"))
    assert offered == ("45" if av1_first == "yes" else "96")


async def test_a_second_share_comes_in_the_section_of_the_first_and_is_another_track(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    alice = double.puppet("alice")
    payloads = []
    for number in range(2):
        screen = alice.screen()
        tools.show(screen, 0, key=True)
        track = await listener.track()
        await tools.until(lambda screen=screen: screen.receivers)
        tools.show(screen, 10 + number, key=True)
        frame = await anext(aiter(track.frames()))
        payloads.append(frame.payload[1])
        alice.stop_screen()
        await tools.until(lambda: not listener.tracks)
        await tools.until(lambda number=number: len(listener.book.removed) == number + 1)
    assert payloads == [10, 11]
    assert [offer.count("m=video") for offer in listener.book.offers] == [1, 1, 1, 1]
    assert not listener.book.failed_answers


async def test_the_screen_of_a_sharer_who_leaves_ends_by_offer_her_voice_only_by_the_plugins_word(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    alice = double.puppet("alice")
    alice.voice().send(tools.silence)
    tools.show(alice.screen(), 0, key=True)
    await tools.until(lambda: len(listener.book.announced) == 2)
    alice.leave()
    await tools.until(lambda: len(listener.tracks) == 1)
    [voice] = listener.tracks
    assert voice.source is TrackSource.VOICE
    listener.media.participant_left(alice.config.session_id)
    assert listener.tracks == []


async def test_sections_of_speakers_who_left_stay_and_newcomers_are_heard_all_the_same(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    for number in range(5):
        speaker = double.puppet(f"speaker{number}")
        voice = speaker.voice()
        voice.send(tools.silence)
        track = await listener.track()
        await tools.until(lambda voice=voice: voice.receivers)
        await tools.heard(voice, track, bytes([0x08, number]))
        speaker.leave()
        listener.media.participant_left(speaker.config.session_id)
    assert [offer.count("m=audio") for offer in listener.book.offers] == [1, 2, 3, 4, 5]
    assert listener.book.offers[-1].count("a=msid:") == 1


async def test_a_layer_switch_to_another_track_is_one_continuing_source_for_readers(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    alice = double.puppet("alice")
    low, high = alice.screen(rid="l"), alice.screen(rid="h")
    tools.show(low, 1, key=True)
    tools.show(high, 2, key=True)
    track = await listener.track()
    await tools.until(lambda: low.receivers)
    tools.show(low, 3, key=True)
    frames = aiter(track.frames())
    assert (await anext(frames)).payload[1] == 3
    double.switch_layer(listener.session_id)
    await tools.until(lambda: high.receivers)
    asked = high.key_frames_asked
    tools.show(high, 4, key=False)
    tools.show(low, 5, key=True)
    broken = await anext(frames)
    assert (broken.payload[1], broken.lost_before) == (4, 1)
    await tools.until(lambda: high.key_frames_asked > asked)
    tools.show(high, 6, key=True)
    assert (await anext(frames)).payload[1] == 6
    assert listener.tracks == [track]
    assert not any(isinstance(event, TrackEnded) for event in listener.events)


async def test_a_screen_that_the_server_says_is_over_ends_without_waiting_for_another_layer(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    alice = double.puppet("alice")
    screen = alice.screen()
    tools.show(screen, 0, key=True)
    await listener.track()
    await tools.until(lambda: screen.receivers)  # before, its end would be forgotten
    alice.stop_screen()
    await tools.until(lambda: listener.book.removed)
    listener.media.screen_shared_by("")
    assert listener.tracks == []


async def test_our_transport_feedback_moves_us_to_the_high_layer_of_a_screen(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double(low_window_s=0.02, high_window_s=0.02, first_estimate_bps=250_000)
    alice = double.puppet("alice")
    low, high = alice.screen(rid="l"), alice.screen(rid="h")
    tools.show(low, 0, key=True)
    tools.show(high, 0, key=True)
    listener = await lobby.enter(double)
    track = await listener.track()
    await tools.until(lambda: low.receivers)
    assert not high.receivers
    for number in range(400):
        tools.show(low, number, key=True)
        tools.show(high, number, key=True)
        if high.receivers:
            break
        await tools.pause(0.02)
    assert high.receivers
    assert listener.tracks == [track]


async def test_of_more_than_a_hundred_tracks_at_the_join_a_hundred_come_and_all_are_answered(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    for number in range(105):
        double.puppet(f"speaker{number}").voice().send(tools.silence)
    listener = await lobby.enter(double)
    await tools.until(lambda: len(listener.book.announced) == 100)
    assert len(listener.tracks) == 100
    assert listener.book.dropped_changes == ["add: queue is full"] * 5
    assert not listener.book.failed_answers


async def test_what_was_on_its_way_when_its_speaker_left_is_no_track_that_nothing_would_end(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    alice, bob = double.puppet("alice"), double.puppet("bob")
    # The plugin's word overtakes the SFU's offer: they come from two servers.
    listener.media.participant_left(alice.config.session_id)
    for puppet in (alice, bob):
        puppet.voice().send(tools.silence)
    await tools.until(lambda: len(listener.book.announced) == 2)
    await tools.until(lambda: listener.tracks)
    assert [track.session_id for track in listener.tracks] == [bob.config.session_id]


async def test_the_sfu_is_told_how_the_connection_does_from_what_was_received(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callclient.media.REPORT_INTERVAL_S", 1)
    double = await lobby.double()
    listener = await lobby.enter(double)
    voice = double.puppet("alice").voice()
    voice.send(tools.silence)
    await listener.track()
    await tools.until(lambda: voice.receivers)
    for number in range(60):
        if number % 4 == 3:
            voice.sequence += 1  # lost on the way
        else:
            voice.send(tools.silence)
        await tools.pause(0.005)
    await tools.until(lambda: len(listener.book.network_reports) >= 3)
    told = dict(listener.book.network_reports)
    assert 0.1 < told["LOSS_RATE"] <= 0.3
    assert 0 < told["ROUND_TRIP_TIME"] < 1
    assert 0 < told["JITTER"] < 1
    assert listener.book.foreign_unlocks == 0
