"""Packets that come before the description that names their SSRC."""

from __future__ import annotations

from typing import Any

import pytest

from callclient.receive.early import CAPACITY, KEPT_NS, EarlyPackets
from rtc.rtcp import TransportFeedback
from rtc.rtp import build_rtp, parse_rtp
from rtc.transport_cc import parse_feedback

VOICE, SCREEN, OTHER = 1, 7, 8
CELT_20MS = b"\xf8\xff\xfe"


def say(
    desk: Any, count: int, *, ssrc: int = VOICE, first: int = 0, numbered: bool = False
) -> None:
    """That many packets of a voice, 20 ms apart."""
    for sequence in range(first, first + count):
        desk.rtp(
            ssrc,
            sequence,
            CELT_20MS,
            timestamp=960 * sequence,
            payload_type=111,
            transport_seq=sequence if numbered else None,
        )
        desk.run(20)


def keep(early: EarlyPackets, ssrc: int, sequence: int, arrival_ns: int) -> None:
    packet = build_rtp(CELT_20MS, payload_type=111, sequence=sequence, timestamp=0, ssrc=ssrc)
    header = parse_rtp(packet)
    assert header is not None
    early.keep(packet, header, arrival_ns)


def test_the_first_word_before_the_description_is_heard_where_it_was_said(desk: Any) -> None:
    began_ns = desk.now_ns
    say(desk, 3)
    desk.announce(desk.media("voice_alice_1", VOICE))
    say(desk, 10, first=3)
    desk.run(200)
    frames = desk.frames(desk.track())
    assert [frame.time_ns - began_ns for frame in frames] == [20_000_000 * n for n in range(13)]
    assert desk.track().statistics.packets_received == 13
    assert desk.track().statistics.concealed_ns == 0


def test_a_key_frame_before_the_description_is_seen_and_no_other_asked_for(desk: Any) -> None:
    desk.picture(SCREEN, 1, key=True)
    desk.announce(desk.media("screen_alice_1", SCREEN))
    desk.run(1500)
    assert [frame.keyframe for frame in desk.frames(desk.track())] == [True]
    assert desk.track().statistics.key_frames_requested == 0


def test_what_was_fed_late_keeps_it_busy_as_what_came_in_time(desk: Any) -> None:
    desk.picture(SCREEN, 1, key=True, lose=(1,))
    assert (desk.receiving.busy, desk.woken) == (False, 0)
    desk.announce(desk.media("screen_alice_1", SCREEN))
    assert (desk.receiving.busy, desk.woken) == (True, 1)


def test_the_early_packets_of_others_wait_on(desk: Any) -> None:
    say(desk, 2, ssrc=VOICE)
    say(desk, 2, ssrc=OTHER)
    desk.announce(desk.media("voice_alice_1", VOICE))
    desk.announce(desk.media("voice_alice_1", VOICE), desk.media("voice_bob_1", OTHER))
    desk.run(200)
    assert [len(desk.frames(desk.track(number))) for number in range(2)] == [2, 2]


def test_a_packet_that_waited_is_told_in_feedback_once(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", VOICE))  # with it the number's extension is known
    desk.said(TransportFeedback)
    say(desk, 3, ssrc=OTHER, numbered=True)
    desk.announce(desk.media("voice_alice_1", VOICE), desk.media("voice_bob_1", OTHER))
    desk.run(300)
    told = [parse_feedback(message.body) for message in desk.said(TransportFeedback)]
    assert sum(len(feedback.received) for feedback in told if feedback) == 3


@pytest.mark.parametrize("track_id", ["voice_me_1", "voice_gone_1"])
def test_of_a_track_that_is_left_alone_nothing_is_kept(desk: Any, track_id: str) -> None:
    desk.receiving.participant_left("gone")
    say(desk, 3)
    desk.announce(desk.media(track_id, VOICE))
    assert (desk.events, len(desk.receiving._early)) == ([], 0)


def test_what_nobody_claims_within_a_second_is_dropped_and_counted(desk: Any) -> None:
    say(desk, 3)
    desk.run(1100)
    early = desk.receiving._early
    assert (len(early), early.dropped) == (0, 3)
    desk.announce(desk.media("voice_alice_1", VOICE))
    desk.run(200)
    assert desk.frames(desk.track()) == []


def test_there_is_room_for_so_many_and_the_newest_stay() -> None:
    early = EarlyPackets()
    for sequence in range(CAPACITY + 5):
        keep(early, VOICE, sequence, sequence)
    assert (len(early), early.dropped) == (CAPACITY, 5)
    taken = [header.sequence for _, header, _ in early.take(VOICE, CAPACITY)]
    assert taken == list(range(5, CAPACITY + 5))
    assert len(early) == 0


def test_what_is_too_old_is_not_taken() -> None:
    early = EarlyPackets()
    keep(early, VOICE, 1, 0)
    keep(early, VOICE, 2, KEPT_NS)
    assert [header.sequence for _, header, _ in early.take(VOICE, KEPT_NS + 1)] == [2]
