"""Packets whose SSRC no description has named."""

from __future__ import annotations

from typing import Any

from callclient.events import TrackAdded, TrackEnded

LOW, HIGH = 7, 8
CELT_20MS = b"\xf8\xff\xfe"


def says(mid: str, rid: str = "") -> tuple[tuple[int, bytes], ...]:
    """Header extensions with the ids of the fixture."""
    return ((6, mid.encode()), *(((7, rid.encode()),) if rid else ()))


def test_a_picture_is_routed_by_its_section_where_its_ssrc_is_not_named(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", None, mid="3"))
    assert desk.events == []
    desk.picture(LOW, 1, key=True, extensions=says("3"))
    desk.picture(LOW, 2)  # senders leave the name out once it was heard
    assert [frame.keyframe for frame in desk.frames(desk.track())] == [True, False]
    assert desk.track().session_id == "alice"


def test_a_learned_route_holds_until_its_track_is_no_longer_announced(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", None, mid="3"))
    desk.picture(LOW, 1, key=True, extensions=says("3"))
    desk.announce(desk.media("screen_alice_1", None, mid="3"), desk.media("voice_bob_1", 99))
    desk.picture(LOW, 2)
    assert len(desk.frames(desk.track())) == 2
    desk.announce(desk.media("voice_bob_1", 99))
    desk.run(2100)
    assert [type(e) for e in desk.events] == [TrackAdded, TrackAdded, TrackEnded]


def test_names_of_other_sections_unknown_layers_and_foreign_codecs_lead_nowhere(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", None, mid="3", rids=("l", "h")))
    desk.picture(LOW, 1, key=True, extensions=says("4"))
    desk.picture(LOW, 2, key=True, extensions=says("3", "x"))
    desk.rtp(LOW, 9, b"\x10\x10", payload_type=100, extensions=says("3", "l"))
    assert desk.events == []
    desk.picture(LOW, 3, key=True, extensions=says("3", "l"))
    assert len(desk.events) == 1


def test_sound_is_not_routed_by_names_that_its_publisher_has_written(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", 1, mid="3"))
    desk.rtp(2, 1, CELT_20MS, payload_type=111, extensions=says("3"))
    desk.run(200)
    assert desk.frames(desk.track()) == []


def test_packets_of_a_track_that_is_left_alone_are_left_alone_each_and_remembered_nowhere(
    desk: Any,
) -> None:
    desk.announce(desk.media("screen_me_1", None, mid="3"))
    for ssrc in range(1000, 1500):
        desk.picture(ssrc, 1, key=True, extensions=says("3"))
    assert desk.events == []
    assert desk.receiving.tracks == []
    assert desk.receiving._learned == set()


def test_another_layer_takes_over_as_the_same_track_when_the_old_one_is_silent(desk: Any) -> None:
    desk.announce(desk.media("screen_alice_1", None, mid="3", rids=("l", "h")))
    desk.picture(LOW, 1, key=True, extensions=says("3", "l"))
    desk.run(100)
    desk.picture(HIGH, 70, key=True, extensions=says("3", "h"))
    assert len(desk.frames(desk.track())) == 1, "two layers at once are not mixed"
    desk.run(600)
    desk.picture(HIGH, 80, extensions=says("3", "h"))
    desk.picture(HIGH, 81, key=True, extensions=says("3", "h"))
    frames = desk.frames(desk.track())
    assert [(f.keyframe, f.lost_before) for f in frames] == [(False, 1), (True, 0)]
    assert [type(e) for e in desk.events] == [TrackAdded]
    assert desk.track().statistics.restarts == 1
