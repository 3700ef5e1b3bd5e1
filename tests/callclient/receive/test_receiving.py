"""What one connection receives: which packet is whose, and what the SFU is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from callclient.events import TrackAdded, TrackEnded
from callclient.receive.latency import LatencyBudget
from callclient.receive.tracks import Codec, TrackSource
from rtc.rtcp import KeyFrameRequest, Nack, ReceiverReport, SenderReport, TransportFeedback
from rtc.transport_cc import parse_feedback

SCREEN, OTHER = 7, 8
CELT_20MS = b"\xf8\xff\xfe"


def key_frames_asked(desk: Any, ssrc: int = SCREEN) -> int:
    return len([m for m in desk.said(KeyFrameRequest) if m.media_ssrc == ssrc])


def test_a_key_frame_is_asked_for_once_a_second_until_one_is_there(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.run(2500)
    assert key_frames_asked(desk) == 3
    desk.picture(SCREEN, 1)
    desk.run(1000)
    assert key_frames_asked(desk) == 1
    desk.picture(SCREEN, 2, key=True)
    desk.run(3000)
    assert key_frames_asked(desk) == 0
    assert desk.track().statistics.key_frames_requested == 4


def test_lost_packets_are_asked_for_after_a_moment_and_again_by_the_round_trip(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.picture(SCREEN, 1, key=True)
    desk.rtt_s = 0.04
    desk.picture(SCREEN, 2, lose=(1,))
    assert desk.said(Nack) == []
    asked = []
    for _ in range(10):
        desk.run(20)
        asked.append([m.sequences for m in desk.said(Nack)])
    assert asked[0] == [(7,)]
    assert asked.count([(7,)]) == 4  # every 60 ms: the round trip, a quarter of it, 10 ms
    desk.picture_packet(SCREEN, 2, 1)
    desk.run(400)
    assert desk.said(Nack) == []
    frames = desk.frames(desk.track())
    assert [f.payload[1] for f in frames] == [1, 2]
    assert [f.lost_before for f in frames] == [0, 0]
    statistics = desk.track().statistics
    desk.receiving.report(desk.now_ns)
    assert (statistics.packets_repaired, statistics.packets_lost) == (1, 0)


def test_what_is_not_repaired_within_the_budget_is_given_up_and_a_key_frame_asked_for(
    desk: Any,
) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.picture(SCREEN, 1, key=True)
    desk.run(1100)
    desk.said(KeyFrameRequest)
    desk.picture(SCREEN, 2, lose=(1,))
    desk.picture(SCREEN, 3)
    desk.run(360)
    assert key_frames_asked(desk) == 0
    desk.run(60)
    assert key_frames_asked(desk) == 1
    desk.said(Nack)
    desk.run(500)
    assert desk.said(Nack) == []
    frames = desk.frames(desk.track())
    assert [(f.payload[1], f.lost_before > 0) for f in frames] == [(1, False), (3, True)]
    desk.receiving.report(desk.now_ns)
    assert desk.track().statistics.packets_lost == 1
    assert desk.track().statistics.packets_dropped == {"incomplete": 2}


def test_pictures_are_not_asked_for_again_where_that_was_not_negotiated(
    desk: Any, codecs: Any
) -> None:
    plain = replace(codecs["VP8"], feedback=("nack pli",))
    desk.announce(desk.media("screen_alice_1", SCREEN, plain))
    desk.picture(SCREEN, 1, key=True)
    desk.run(1100)
    desk.said(KeyFrameRequest)
    desk.picture(SCREEN, 2, lose=(1,))
    desk.run(500)
    desk.picture(SCREEN, 3)
    desk.run(500)
    assert desk.said(Nack) == []
    assert key_frames_asked(desk) > 0
    assert [f.lost_before > 0 for f in desk.frames(desk.track())] == [False, True]


def test_where_packets_get_lost_a_request_for_a_key_frame_is_repeated_twice_within_its_second(
    desk: Any,
) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.picture(SCREEN, 1, key=True)
    desk.run(1100)
    desk.said(KeyFrameRequest)
    desk.picture(SCREEN, 2, lose=(1,))
    desk.picture(SCREEN, 3)
    desk.run(420)
    asked = desk.track().statistics.key_frames_requested
    assert key_frames_asked(desk) == 1
    desk.run(800)
    assert key_frames_asked(desk) == 2
    assert desk.track().statistics.key_frames_requested == asked
    desk.picture(SCREEN, 4, key=True)
    desk.run(3000)
    assert key_frames_asked(desk) == 0


def test_a_readers_request_for_a_key_frame_goes_out_at_most_once_a_second(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.picture(SCREEN, 1, key=True)
    desk.run(40)
    for _ in range(5):
        desk.track().request_key_frame()
    assert key_frames_asked(desk) == 1
    desk.run(1000)
    desk.track().request_key_frame()
    assert key_frames_asked(desk) == 1


def test_sound_is_never_asked_for_again(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", SCREEN))
    for sequence in (0, 1, 2, 5, 6):
        desk.rtp(SCREEN, sequence, CELT_20MS, timestamp=960 * sequence, payload_type=111)
        desk.run(20)
    desk.run(400)
    assert desk.said(Nack) == desk.said(KeyFrameRequest) == []
    frames = desk.frames(desk.track())
    assert [(f.lost_before, f.lost_ns // 1_000_000) for f in frames] == [
        (0, 0),
        (0, 0),
        (0, 0),
        (2, 40),
        (0, 0),
    ]
    assert desk.track().statistics.concealed_ns == 40_000_000


def test_every_numbered_packet_is_told_in_feedback_ten_times_a_second(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", SCREEN))
    for number in range(10):
        # Also those of nobody we know: the numbers belong to the connection.
        ssrc = SCREEN if number % 2 else 99
        desk.rtp(ssrc, number, CELT_20MS, payload_type=111, transport_seq=65_530 + number & 0xFFFF)
        desk.run(20)
    desk.run(100)
    told = [parse_feedback(m.body) for m in desk.said(TransportFeedback)]
    assert [feedback.base for feedback in told if feedback] == [65_530, 65_531, 0]
    assert sum(len(feedback.received) for feedback in told if feedback) == 10


def test_it_is_busy_only_while_packets_wait_for_others(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.picture(SCREEN, 1, key=True)
    desk.run(20)
    assert (desk.receiving.busy, desk.woken) == (False, 0)
    desk.picture(SCREEN, 2, lose=(1,))
    assert (desk.receiving.busy, desk.woken) == (True, 1)
    desk.run(100)
    assert (desk.receiving.busy, desk.woken) == (True, 1)
    desk.picture_packet(SCREEN, 2, 1)
    desk.run(20)
    assert (desk.receiving.busy, desk.woken) == (False, 1)
    desk.picture(SCREEN, 3, lose=(2,))
    desk.picture(SCREEN, 4)
    assert desk.woken == 2
    desk.run(500)  # given up
    assert not desk.receiving.busy


def test_a_talk_spurt_that_is_held_keeps_it_busy(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", 1))
    desk.rtp(1, 0, CELT_20MS, payload_type=111)
    assert desk.receiving.busy
    desk.run(200)
    assert not desk.receiving.busy
    assert len(desk.frames(desk.track())) == 1


def test_reports_name_each_source_and_refer_to_its_sender_report(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", 1), desk.media("voice_bob_1", 2))
    desk.rtp(1, 10, CELT_20MS, payload_type=111)
    desk.receiving.sender_report_received(SenderReport(1, 0x1234_5678_9ABC_DEF0, 0), desk.now_ns)
    desk.receiving.report(desk.now_ns + 500_000_000)
    [report] = desk.said(ReceiverReport)
    assert [(b.ssrc, b.last_sender_report) for b in report.reports] == [(1, 0x5678_9ABC), (2, 0)]
    assert report.reports[0].delay_ticks == 32_768


def test_a_track_is_what_its_first_packet_is_whatever_was_announced_first(
    desk: Any, codecs: Any
) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN, codecs["VP8"], codecs["AV1"]))
    assert desk.track().codec is Codec.VP8
    desk.rtp(SCREEN, 0, b"\x10\x08abc", payload_type=45, marker=True)
    assert desk.track().codec is Codec.AV1
    desk.rtp(SCREEN, 1, b"\x10\x30\x10", payload_type=96, marker=True)
    desk.rtp(SCREEN, 2, b"\x10\x30\x10", payload_type=100, marker=True)
    [frame] = desk.frames(desk.track())
    assert frame.payload == b"\x12\x00\x0a\x03abc"
    assert desk.track().statistics.packets_dropped == {"payload_type": 2}


@pytest.mark.parametrize(
    "track_id", ["voice_me_1", "voice", "voice_a_b_c", "desk_a_1", "screen_alice"]
)
def test_tracks_of_our_own_or_with_strange_names_are_left_alone(track_id: str, desk: Any) -> None:
    desk.announce(desk.media(track_id, 1))
    desk.rtp(1, 1, CELT_20MS, payload_type=111)
    assert desk.events == []


def test_a_source_that_comes_back_as_another_track_goes_on_in_order_and_asks_for_a_key_frame(
    desk: Any,
) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.picture(SCREEN, 1, key=True)
    desk.run(1100)
    desk.said(KeyFrameRequest)
    desk.announce()
    desk.run(1900)
    desk.announce(desk.media("screen_alice_2", OTHER))
    desk.run(20)
    assert key_frames_asked(desk, OTHER) == 1
    desk.picture(OTHER, 500)
    desk.picture(OTHER, 501, key=True)
    frames = desk.frames(desk.track())
    assert [(f.keyframe, f.lost_before) for f in frames] == [(True, 0), (False, 1), (True, 0)]
    assert [f.time_ns for f in frames] == sorted(f.time_ns for f in frames)
    assert [type(event) for event in desk.events] == [TrackAdded]
    assert desk.track().statistics.restarts == 1
    desk.track().request_key_frame()
    desk.run(1000)
    desk.track().request_key_frame()
    assert key_frames_asked(desk, OTHER) == 1


def test_a_screen_that_does_not_come_back_ends(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.announce()
    desk.run(1900)
    assert [type(event) for event in desk.events] == [TrackAdded]
    desk.run(200)
    assert [type(event) for event in desk.events] == [TrackAdded, TrackEnded]


@pytest.mark.parametrize("word_first", [True, False])
def test_a_second_share_is_another_track_when_the_server_said_that_the_first_is_over(
    word_first: bool, desk: Any
) -> None:
    desk.receiving.screen_shared_by("alice")
    desk.announce(desk.media("screen_alice_1", SCREEN))
    if word_first:
        desk.receiving.screen_shared_by("")
        desk.announce()
    else:
        desk.announce()
        desk.receiving.screen_shared_by("")
    assert [type(event) for event in desk.events] == [TrackAdded, TrackEnded]
    desk.receiving.screen_shared_by("alice")
    desk.announce(desk.media("screen_alice_2", OTHER))
    assert desk.track(1).track_id == "screen_alice_2"


def test_a_reused_section_with_another_source_is_another_track(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.announce(desk.media("screen_bob_1", SCREEN))
    assert [e.track.session_id for e in desk.events] == ["alice", "bob"]
    desk.picture(SCREEN, 1, key=True)
    assert len(desk.frames(desk.track(1))) == 1
    assert desk.frames(desk.track(0)) == []


def test_a_new_layer_that_is_there_before_the_old_one_goes_ends_the_old_one(desk: Any) -> None:
    low, high = desk.media("screen_alice_1", SCREEN), desk.media("screen_alice_2", OTHER)
    desk.announce(low)
    desk.announce(low, high)
    desk.announce(high)
    assert [type(event) for event in desk.events] == [TrackAdded, TrackAdded, TrackEnded]


def test_a_voice_ends_only_by_the_servers_word(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", 1))
    desk.announce()
    desk.run(5000)
    assert [type(event) for event in desk.events] == [TrackAdded]
    assert desk.track().source is TrackSource.VOICE
    desk.rtp(1, 1, CELT_20MS, payload_type=111)
    desk.receiving.participant_left("alice")
    assert [type(event) for event in desk.events] == [TrackAdded, TrackEnded]
    assert len(desk.frames(desk.track())) == 1  # what was held is handed on


def test_closing_ends_every_track_once_also_one_between_two_layers(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", 1), desk.media("screen_alice_1", SCREEN))
    desk.announce(desk.media("voice_alice_1", 1))
    desk.receiving.close()
    desk.receiving.close()
    assert [type(event) for event in desk.events].count(TrackEnded) == 2


def test_hostile_packets_are_counted_or_ignored_and_never_raise(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", SCREEN))
    for packet in (b"", b"\x80", bytes(12), b"\x9f" + bytes(40)):
        desk.receiving.rtp_received(packet, desk.now_ns)
    for ssrc in range(1000, 2000):
        desk.rtp(ssrc, 1, b"x")
    for sequence in (0, 30_000, 60_000, 5, 40_000, 39_999):
        desk.rtp(SCREEN, sequence, b"\x90", marker=True)
    desk.run(1000)
    assert desk.track().statistics.packets_dropped["malformed"] >= 5
    assert desk.frames(desk.track()) == []


@pytest.mark.parametrize("value", [-0.1, 1.01])
def test_a_budget_beyond_its_range_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match=r"audio_wait_s is .*wanted 0 to 1 seconds"):
        LatencyBudget(audio_wait_s=value, video_wait_s=0.4)
