"""What is made of what a session sends (rtcd.md 3.4, 3.6)."""

from __future__ import annotations

import pytest

from rtc.rtp import build_rtp
from rtc.sdp import Msid
from rtc.sections import LocalMedia
from sfu.messages import RtcType

pytestmark = pytest.mark.looptime

S = 1_000_000_000
MS = 1_000_000


async def test_one_sender_may_have_all_four_kinds_under_its_session_id(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.talk()
    await alice.share("screen")
    sound = await alice.publish("audio", "screen")
    sound.send()
    alice.tell(RtcType.VIDEO_ON, {"videoStreamID": "camera"})
    camera = await alice.publish("video", "camera")
    camera.send_picture(1, key=True)
    await bob.settle()
    kinds = {"screen", "screen-audio", "video", "voice"}
    assert set(bob.tracks) == {f"{kind}_alice" for kind in kinds}
    assert {media.msid.stream_id for media in bob.tracks.values()} == {"alice"}
    assert {entry["type"] for entry in bob.media_map.values()} == kinds
    assert {entry["sender_id"] for entry in bob.media_map.values()} == {"alice"}


async def test_a_declared_track_without_packets_is_not_announced(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.publish("audio", "voice-stream")
    assert bob.offers == []


async def test_video_that_nobody_announced_is_held_for_two_seconds(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.publish("video", "screen")
    screen.send_picture(1, key=True, at_ns=10 * S)
    await bob.settle()
    assert bob.offers == []
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    await alice.settle()
    screen.send_picture(2, key=True, at_ns=12 * S)
    await bob.settle()
    assert list(bob.tracks) == ["screen_alice"]


async def test_video_that_stays_unannounced_is_told_once_and_taken_when_it_is(venue) -> None:
    """A client that waits for the lock says `video_on` later than in two seconds."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    camera = await alice.publish("video", "camera")
    for second in range(10):
        camera.send_picture(second, key=True, at_ns=second * S)
    rejected = venue.server.metrics._values["rtcd_rtc_undecided_total"]
    assert rejected == {("group", "rejected"): 1}
    alice.tell(RtcType.VIDEO_ON, {"videoStreamID": "camera"})
    await alice.settle()
    camera.send_picture(11, key=True, at_ns=11 * S)
    await bob.settle()
    assert list(bob.tracks) == ["video_alice"]


async def test_a_section_is_judged_anew_when_another_stream_is_in_it(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    camera = await alice.publish("video", "unannounced")
    camera.send_picture(1, key=True, at_ns=0)
    camera.section.local = LocalMedia(Msid("screen", "t"), camera.ssrc, "alice")
    await alice.offer()
    camera.send_picture(1, key=True, at_ns=5 * S)  # the two seconds begin here
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    await alice.settle()
    camera.send_picture(2, key=True, at_ns=6 * S)
    await bob.settle()
    assert list(bob.tracks) == ["screen_alice"]
    assert not venue.server.metrics._values["rtcd_rtc_undecided_total"].get(("group", "rejected"))


async def test_an_early_sound_of_a_screen_leaves_the_voice_alone(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    voice = await alice.talk()
    sound = await alice.publish("audio", "screen")
    sound.send(at_ns=S)
    await bob.settle()
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    await alice.settle()
    sound.send(at_ns=S + 500 * MS)
    await bob.settle()
    bob.wire.take()
    voice.send(b"still the same")
    [packet] = bob.wire.take()
    assert packet.header.ssrc == bob.tracks["voice_alice"].ssrc
    assert sorted(bob.tracks) == ["screen-audio_alice", "voice_alice"]
    assert sum("voice_alice" in offer for offer in bob.offers[:1]) == 1


async def test_an_early_sound_without_a_voice_is_a_voice_until_the_screen_is_known(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    sound = await alice.publish("audio", "screen")
    sound.send()
    await bob.settle()
    assert list(bob.tracks) == ["voice_alice"]
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    await alice.settle()
    sound.send()
    await bob.settle()
    assert "screen-audio_alice" in bob.tracks
    bob.wire.take()
    sound.send(b"film")
    [packet] = bob.wire.take()
    assert packet.header.ssrc == bob.tracks["screen-audio_alice"].ssrc


async def test_a_later_voice_takes_the_place_of_the_earlier_for_good(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    first = await alice.talk()
    second = await alice.publish("audio", "other-stream")
    for tenth in range(60):
        first.send(b"first", at_ns=tenth * 100 * MS)
        second.send(b"second", at_ns=tenth * 100 * MS)
        await bob.settle()
    payloads = [p.payload for p in bob.wire.take()]
    assert payloads[:22] == [b"first"] * 22  # two seconds: it might have been a screen's sound
    assert set(payloads[22:]) == {b"second"}
    voices = [t for t in alice.session._call.tracks if t.type.value == "voice"]
    assert len(voices) == 1


async def test_a_second_screen_is_refused_and_taken_when_the_first_has_ended(venue) -> None:
    alice, bob, carol = [await venue.join(name) for name in ("alice", "bob", "carol")]
    await alice.share("first")
    other = await bob.share("second")
    await carol.settle()
    assert list(carol.tracks) == ["screen_alice"]
    alice.tell(RtcType.SCREEN_OFF)
    await alice.settle()
    assert carol.tracks == {}
    bob.tell(RtcType.SCREEN_ON, {"screenStreamID": "second"})
    await bob.settle()
    other.send_picture(2, key=True)
    await carol.settle()
    assert list(carol.tracks) == ["screen_bob"]


async def test_a_screen_off_of_somebody_else_changes_nothing(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    bob.tell(RtcType.SCREEN_OFF)
    await bob.settle()
    assert list(bob.tracks) == ["screen_alice"]


async def test_after_screen_off_what_still_comes_is_not_taken_for_something_else(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    alice.tell(RtcType.SCREEN_OFF)
    await alice.settle()
    for second in range(5):
        screen.send_picture(second, key=True, at_ns=second * S)
    await bob.settle()
    assert bob.tracks == {}


async def test_the_sound_of_a_screen_stays_after_screen_off(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share("screen")
    sound = await alice.publish("audio", "screen")
    sound.send()
    alice.tell(RtcType.SCREEN_OFF)
    await alice.settle()
    assert list(bob.tracks) == ["screen-audio_alice"]
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "another"})
    await alice.settle()
    assert list(bob.tracks) == ["screen-audio_alice"]


async def test_a_camera_stays_when_another_stream_is_announced(venue) -> None:
    """video_off does nothing: clients detach the track (rtcd.md 3.6)."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.VIDEO_ON, {"videoStreamID": "camera"})
    camera = await alice.publish("video", "camera")
    camera.send_picture(1, key=True)
    alice.tell(RtcType.VIDEO_OFF)
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    alice.tell(RtcType.VIDEO_ON, {"videoStreamID": "another"})
    await alice.settle()
    assert list(bob.tracks) == ["video_alice"]


async def test_a_section_that_is_no_longer_sent_in_ends_its_track(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    screen = await alice.share()
    screen.section.local = None
    await alice.offer()
    assert bob.tracks == {}
    assert alice.session._call.tracks == []


async def test_two_ssrcs_in_turns_in_one_section_are_no_lever(venue) -> None:
    """Each change costs everybody an offer; the later one stays."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    await alice.share()
    section = alice.negotiation.sections[-1]
    text = alice.negotiation.create_offer(alice.transport)
    ssrc = section.local.ssrc
    line = f"a=ssrc:{ssrc} cname:alice"
    alice.describe("offer", text.replace(line, f"{line}\r\na=ssrc:77 cname:alice"))
    await alice.settle()
    offers = len(bob.offers)
    for number in range(100):
        packet = build_rtp(
            b"\x90\x80\x80\x00\x00",
            payload_type=section.payload_type("VP8") or 0,
            sequence=number,
            timestamp=0,
            ssrc=77 if number % 2 else ssrc,
        )
        alice.session.rtp_received(packet, 10 * S + number * MS)
        await bob.settle()
    assert len(bob.offers) - offers <= 2


async def test_made_up_ssrcs_begin_a_bounded_number_of_tracks(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    low, _ = await alice.publish_layers("screen")
    for number in range(300):
        low.ssrc = 0x5000 + number
        low.send_picture(number, key=True, at_ns=number * MS)
        await bob.settle()
    publisher = alice.session._publisher
    assert len(publisher._encodings) == 1
    assert len(publisher._retired) <= 20
    assert len(bob.offers) <= 45
    assert len(bob.negotiation.sections) <= 4


async def test_sections_without_ssrcs_are_told_apart_by_mid_or_payload_type(venue) -> None:
    """RFC 8843 section 9.2."""
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {"screenStreamID": "screen"})
    alice.tell(RtcType.VIDEO_ON, {"videoStreamID": "camera"})
    for kind, stream in (("audio", "voice"), ("video", "screen"), ("video", "camera")):
        alice.negotiation.add_sender(kind, _media(stream))
    text = alice.negotiation.create_offer(alice.transport)
    lines = [line for line in text.split("\r\n") if not line.startswith("a=ssrc:")]
    alice.describe("offer", "\r\n".join(lines))
    await alice.settle()
    voice, screen, camera = alice.negotiation.sections[1:]
    for number, section in enumerate((voice, screen, camera, camera)):
        kind = "opus" if section is voice else "VP8"
        mid = section.extensions.get("urn:ietf:params:rtp-hdrext:sdes:mid")
        named = section is not voice and number != 3
        packet = build_rtp(
            b"\x90\x80\x80\x00\x00",
            payload_type=section.payload_type(kind) or 0,
            sequence=1,
            timestamp=0,
            ssrc=0x900 + number,
            extensions=((mid, section.mid.encode()),) if named else (),
        )
        alice.session.rtp_received(packet, 0)
    await bob.settle()
    assert sorted(bob.tracks) == ["screen_alice", "video_alice", "voice_alice"]


async def test_voice_activity_is_told_and_ends_with_a_mute_every_time(venue) -> None:
    alice = await venue.join("alice")
    voice = await alice.talk()
    for number in range(80):
        voice.send(level=20 if number // 10 % 2 else 120, at_ns=number * 20 * MS)
    assert alice.voice == [True]
    for _ in range(2):
        alice.tell(RtcType.MUTE)
        await alice.settle()
    assert alice.voice == [True, False, False]


async def test_an_empty_stream_id_announces_nothing(venue) -> None:
    alice, bob = await venue.join("alice"), await venue.join("bob")
    alice.tell(RtcType.SCREEN_ON, {})
    alice.tell(RtcType.VIDEO_ON, {"videoStreamID": ""})
    video = await alice.publish("video", "")
    video.send_picture(1, key=True)
    await bob.settle()
    assert bob.tracks == {}


def _media(stream: str) -> LocalMedia:
    return LocalMedia(Msid(stream, "t-" + stream), 1, "alice")
