"""What the double makes of a publisher's packets."""

from __future__ import annotations

from typing import Any

import pytest

from rtc.rtcp import Nack, TransportFeedback, parse_rtcp
from rtc.rtp import build_rtp
from rtc.sdp import CodecDescription, Msid
from rtc.sections import RemoteMedia
from sfu.media_port import SessionConfig
from testbed.rtcd_double.book import Book
from testbed.rtcd_double.call import Call
from testbed.rtcd_double.packets import transport_feedback
from testbed.rtcd_double.publishing import Publisher
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.tracks import Published, TrackType
from testbed.rtcd_double.transceivers import AUDIO_LEVEL, STREAM_ID, TRANSPORT_CC

MS = 1_000_000
OPUS = CodecDescription(111, "opus", 48_000, 2)
VP8 = CodecDescription(96, "VP8", 90_000)


class Owner:
    """A participant with a publisher."""

    def __init__(self, **script: Any) -> None:
        self.config = SessionConfig("group", "call", "user", "alice")
        self.published: list[Published] = []
        self.rtcp: list[bytes] = []
        self.voice: list[bool] = []
        self.book = Book()
        self.call = Call(Script(**script))
        self.call.participants["alice"] = self
        self.publisher = Publisher(
            session_id="alice",
            call=self.call,
            script=Script(**script),
            book=self.book,
            send_rtcp=self.rtcp.append,
            voice_changed=self.voice.append,
        )

    def announce(self, *media: RemoteMedia) -> None:
        self.publisher.announced(list(media))

    def send(self, ssrc: int, sequence: int = 1, *, payload_type: int, **more: Any) -> None:
        packet = build_rtp(
            b"x", payload_type=payload_type, sequence=sequence, timestamp=0, ssrc=ssrc, **more
        )
        self.publisher.rtp_received(packet, sequence * 20 * MS)

    @property
    def types(self) -> list[TrackType]:
        return [track.type for track in self.published]


def audio(stream: str, ssrc: int) -> RemoteMedia:
    return RemoteMedia(
        "1", "audio", Msid(stream, "t"), (ssrc,), (), (OPUS,), {AUDIO_LEVEL: 3, TRANSPORT_CC: 5}
    )


def video(stream: str, *ssrcs: int, rids: tuple[str, ...] = ()) -> RemoteMedia:
    return RemoteMedia("2", "video", Msid(stream, "t"), ssrcs, rids, (VP8,), {STREAM_ID: 4})


def test_a_track_without_packets_is_never_announced() -> None:
    owner = Owner()
    owner.announce(audio("microphone", 1))
    assert owner.published == []
    owner.send(1, payload_type=111)
    assert owner.types == [TrackType.VOICE]


@pytest.mark.parametrize("rejects", [True, False])
def test_video_that_comes_before_its_announcement_is_refused_for_good(rejects: bool) -> None:
    owner = Owner(rejects_early_video=rejects)
    owner.announce(video("screen", 5))
    owner.send(5, payload_type=96)
    owner.call.start_screen("alice", "screen")
    owner.send(5, 2, payload_type=96)
    assert owner.types == ([] if rejects else [TrackType.SCREEN])
    assert owner.book.rejected_video == rejects


def test_streams_tell_screen_camera_and_sound() -> None:
    owner = Owner()
    owner.call.start_screen("alice", "screen")
    owner.publisher.video_stream_id = "camera"
    owner.announce(
        audio("screen", 1), audio("microphone", 2), video("camera", 3), video("screen", 4)
    )
    for ssrc in (1, 2):
        owner.send(ssrc, payload_type=111)
    for ssrc in (3, 4):
        owner.send(ssrc, payload_type=96)
    assert owner.types == [
        TrackType.SCREEN_AUDIO,
        TrackType.VOICE,
        TrackType.VIDEO,
        TrackType.SCREEN,
    ]


def test_layers_are_told_apart_by_rid_and_one_of_another_name_is_lost() -> None:
    owner = Owner()
    owner.call.start_screen("alice", "screen")
    owner.announce(video("screen", rids=("l", "m", "h")))
    for ssrc, rid in ((1, b"l"), (2, b"m"), (3, b"h")):
        owner.send(ssrc, payload_type=96, extensions=((4, rid),))
        owner.send(ssrc, 2, payload_type=96)
    assert [track.rid for track in owner.published] == ["l", "h"]


def test_a_muted_voice_that_still_sends_can_be_heard_speaking() -> None:
    owner = Owner()
    owner.announce(audio("microphone", 1))
    owner.send(1, 0, payload_type=111)
    owner.publisher.mute(True)
    assert owner.voice == [False]
    for number in range(1, 80):
        level = bytes([20 if number // 10 % 2 else 120])
        owner.send(1, number, payload_type=111, extensions=((3, level),))
    assert owner.voice == [False, True]
    assert not owner.published[0].enabled


def test_a_mute_before_there_is_a_voice_is_forgotten() -> None:
    owner = Owner()
    owner.publisher.mute(True)
    owner.announce(audio("microphone", 1))
    owner.send(1, payload_type=111)
    assert owner.published[0].enabled


def test_a_new_voice_takes_the_place_of_the_old_one() -> None:
    owner = Owner()
    owner.announce(audio("first", 1), audio("second", 2))
    owner.send(1, payload_type=111)
    owner.send(2, payload_type=111)
    assert [track.ssrc for track in owner.published] == [2]


def test_missing_video_is_asked_for_again_and_again_and_missing_audio_is_not() -> None:
    owner = Owner()
    owner.call.start_screen("alice", "screen")
    owner.announce(audio("microphone", 1), video("screen", 2))
    for sequence in (65534, 1):
        owner.send(1, sequence, payload_type=111)
        owner.send(2, sequence, payload_type=96)
    owner.publisher.give_feedback()
    owner.publisher.give_feedback()
    nacks = [m for part in owner.rtcp for m in parse_rtcp(part) if isinstance(m, Nack)]
    assert [(n.media_ssrc, set(n.sequences)) for n in nacks] == [(2, {65535, 0})] * 2
    owner.send(2, 65535, payload_type=96)
    owner.send(2, 0, payload_type=96)
    owner.rtcp.clear()
    owner.publisher.give_feedback()
    assert owner.rtcp == []


def test_a_publisher_is_told_what_arrived_whether_or_not_it_is_forwarded() -> None:
    owner = Owner()
    owner.announce(audio("microphone", 1), video("nothing announced", 2))
    for number in (10, 11, 13):
        owner.send(
            2 if number == 11 else 1,
            number,
            payload_type=96 if number == 11 else 111,
            extensions=((5, number.to_bytes(2)),),
        )
    owner.publisher.give_feedback()
    [report] = [m for part in owner.rtcp for m in parse_rtcp(part)]
    assert isinstance(report, TransportFeedback)
    assert transport_feedback(bytes(8) + report.body) == (3, 1)
    owner.rtcp.clear()
    owner.publisher.give_feedback()
    assert owner.rtcp == []
